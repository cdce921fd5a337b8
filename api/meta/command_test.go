package meta

import (
	"reflect"
	"testing"
)

// TestEveryCommandTellsItsBucket: whoever protects a bucket relies on it.
func TestEveryCommandTellsItsBucket(t *testing.T) {
	// of sessions alone, of many sessions, of everything
	without := map[string]bool{"At": true, "RenewSession": true, "EndSession": true, "ExpireSessions": true, "SealGroup": true, "Restore": true}
	for i := range reflect.TypeFor[Command]().NumField() {
		var c Command
		f := reflect.TypeFor[Command]().Field(i)
		if without[f.Name] {
			continue
		}
		operand := reflect.New(f.Type.Elem())
		reflect.ValueOf(&c).Elem().Field(i).Set(operand)
		name := operand.Elem().FieldByName("Bucket")
		if !name.IsValid() || name.Kind() == reflect.Struct {
			if name.IsValid() {
				operand = name.Addr()
			}
			name = operand.Elem().FieldByName("Name")
		}
		name.SetString("b")
		if c.Bucket() != "b" {
			t.Errorf("%s tells bucket %q", f.Name, c.Bucket())
		}
	}
}

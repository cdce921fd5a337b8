package wasi

// ValueType is the type of a parameter or result, coded as WebAssembly codes it.
type ValueType = byte

// The types that preview 1 uses.
const (
	I32 ValueType = 0x7f
	I64 ValueType = 0x7e
)

// Function is one function of preview 1.
//
// Call takes its parameters from stack and leaves the result there, as wazero's GoModuleFunc does. The
// upper halves of slots that hold 32 bits are not read. m is the caller's memory, nil if it has none.
// Call panics with *Exit when the guest ends itself, and with an error when the call has been ended
// (Bind).
type Function struct {
	Name            string
	Params, Results []ValueType
	Call            func(w *World, m Memory, stack []uint64)
}

// Functions are all functions of preview 1, in the order of its specification.
func Functions() []Function {
	return []Function{
		function("args_get", "ii", argsGet),
		function("args_sizes_get", "ii", argsSizesGet),
		function("environ_get", "ii", environGet),
		function("environ_sizes_get", "ii", environSizesGet),
		function("clock_res_get", "ii", clockResGet),
		function("clock_time_get", "iIi", clockTimeGet),
		function("fd_advise", "iIIi", fdAdvise),
		function("fd_allocate", "iII", fdAllocate),
		function("fd_close", "i", fdClose),
		function("fd_datasync", "i", fdDatasync),
		function("fd_fdstat_get", "ii", fdFdstatGet),
		function("fd_fdstat_set_flags", "ii", fdFdstatSetFlags),
		function("fd_fdstat_set_rights", "iII", fdFdstatSetRights),
		function("fd_filestat_get", "ii", fdFilestatGet),
		function("fd_filestat_set_size", "iI", fdFilestatSetSize),
		function("fd_filestat_set_times", "iIIi", fdFilestatSetTimes),
		function("fd_pread", "iiiIi", fdPread),
		function("fd_prestat_get", "ii", fdPrestatGet),
		function("fd_prestat_dir_name", "iii", fdPrestatDirName),
		function("fd_pwrite", "iiiIi", fdPwrite),
		function("fd_read", "iiii", fdRead),
		function("fd_readdir", "iiiIi", fdReaddir),
		function("fd_renumber", "ii", fdRenumber),
		function("fd_seek", "iIii", fdSeek),
		function("fd_sync", "i", fdSync),
		function("fd_tell", "ii", fdTell),
		function("fd_write", "iiii", fdWrite),
		function("path_create_directory", "iii", pathCreateDirectory),
		function("path_filestat_get", "iiiii", pathFilestatGet),
		function("path_filestat_set_times", "iiiiIIi", pathFilestatSetTimes),
		function("path_link", "iiiiiii", pathLink),
		function("path_open", "iiiiiIIii", pathOpen),
		function("path_readlink", "iiiiii", pathReadlink),
		function("path_remove_directory", "iii", pathRemoveDirectory),
		function("path_rename", "iiiiii", pathRename),
		function("path_symlink", "iiiii", pathSymlink),
		function("path_unlink_file", "iii", pathUnlinkFile),
		function("poll_oneoff", "iiii", pollOneoff),
		{Name: "proc_exit", Params: types("i"), Call: procExit},
		function("proc_raise", "i", procRaise),
		function("sched_yield", "", schedYield),
		function("random_get", "ii", randomGet),
		function("sock_accept", "iii", sockAccept),
		function("sock_recv", "iiiiii", sockRecv),
		function("sock_send", "iiiii", sockSend),
		function("sock_shutdown", "ii", sockShutdown),
	}
}

// function is a Function that answers with an errno, if the call has not ended. params has an i for each i32 and an I for each i64.
func function(name, params string, do func(*World, memory, args) error) Function {
	return Function{
		Name: name, Params: types(params), Results: types("i"),
		Call: func(w *World, m Memory, stack []uint64) {
			w.ended()
			stack[0] = uint64(errnoOf(do(w, memory{m}, args(stack))))
		},
	}
}

func types(letters string) []ValueType {
	all := make([]ValueType, len(letters))
	for i, letter := range letters {
		all[i] = I32
		if letter == 'I' {
			all[i] = I64
		}
	}
	return all
}

// args are the parameters of a call.
type args []uint64

func (a args) u32(i int) uint32 { return uint32(a[i]) } // cuts the upper half off, which is not defined
func (a args) u64(i int) uint64 { return a[i] }

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stageEnv tells the test binary, which starts itself twice, what it is: unset, the one that was
// called; "init", the first process of the new namespaces; "test", the one that runs the tests.
const stageEnv = "CLOUDLESS_E2E_STAGE"

// contain builds, then runs the tests in network, process and mount namespaces of their own. When
// the first process of a process namespace ends the kernel ends all others, daemons included, and
// with the last of them go the networks and mounts. Without root the tests run as they are.
func contain(build func(dir string) error, tests func(dir string) int) int {
	switch os.Getenv(stageEnv) {
	case "init":
		return report(initProcess())
	case "test":
		return tests(os.Getenv(folderEnv))
	}
	dir, err := os.MkdirTemp("", "cloudless-e2e-*")
	if err != nil {
		return report(1, err)
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		return report(1, err)
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "NOT ROOT: the tests that need network namespaces are skipped")
		return tests(dir)
	}
	return report(runContained(dir))
}

func report(code int, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return max(code, 1)
	}
	return code
}

func again(stage string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stageEnv+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func runContained(dir string) (int, error) {
	runtime.LockOSThread() // the death signal comes when the thread that started a process ends
	cmd := again("init")
	cmd.Env = append(cmd.Env, folderEnv+"="+dir)
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return 1, fmt.Errorf("no namespaces: %w", err)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// initProcess is the first process of the namespaces: it makes them usable, starts the tests, and
// reaps what loses its parent, which else would seem to be alive still.
func initProcess() (int, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 1, fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 1, fmt.Errorf("mount /proc: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("loopback: %w: %s", err, out)
	}
	runtime.LockOSThread()
	cmd := again("test")
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 1, fmt.Errorf("wait: %w", err)
		case pid == cmd.Process.Pid && status.Signaled():
			return 1, fmt.Errorf("the tests were ended by %v", status.Signal())
		case pid == cmd.Process.Pid:
			return status.ExitStatus(), nil
		}
	}
}

// needNamespaces is called first by every test that makes networks.
func needNamespaces(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
}

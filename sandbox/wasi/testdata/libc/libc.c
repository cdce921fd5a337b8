// A C program on wasi-libc that uses files and standard streams as C programs do. Built by
//   clang --target=wasm32-wasi -Os -s -o libc.wasm libc.c
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FAILS(call, error) (assert((call) == -1), assert(errno == (error)))

static void files(void) {
  char buf[16];
  FILE *f = fopen("/data/file", "w+");
  assert(f && fputs("hello, file", f) >= 0 && fflush(f) == 0);
  assert(fseek(f, 7, SEEK_SET) == 0 && fgets(buf, sizeof buf, f) && strcmp(buf, "file") == 0);
  assert(ftell(f) == 11 && fclose(f) == 0);

  int fd = open("/data/log", O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0644);
  assert(fd != -1 && write(fd, "ab", 2) == 2 && lseek(fd, 0, SEEK_SET) == 0 && write(fd, "cd", 2) == 2);
  assert(lseek(fd, 0, SEEK_CUR) == 4 && pwrite(fd, "X", 1, 0) == 1 && lseek(fd, 0, SEEK_CUR) == 4);
  FAILS(read(fd, buf, 1), EBADF);
  assert(ftruncate(fd, 3) == 0 && posix_fallocate(fd, 0, 8) == 0 && fsync(fd) == 0);
  struct stat st;
  assert(fstat(fd, &st) == 0 && st.st_size == 8 && S_ISREG(st.st_mode) && !isatty(fd) && close(fd) == 0);

  fd = open("/data/log", O_RDONLY);
  assert(pread(fd, buf, 16, 1) == 7 && memcmp(buf, "bc\0", 3) == 0);
  FAILS(write(fd, "x", 1), EBADF);
  assert(close(fd) == 0);
  FAILS(close(fd), EBADF);
  FAILS(open("/data/none", O_RDONLY), ENOENT);
  FAILS(open("/data/log", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
  FAILS(open("/data/../etc/passwd", O_RDONLY), EPERM);
}

static void directories(void) {
  assert(mkdir("/data/dir", 0755) == 0);
  FAILS(mkdir("/data/dir", 0755), EEXIST);
  for (char name[] = "/data/dir/0"; name[10] <= '9'; name[10]++) {
    int fd = open(name, O_CREAT | O_WRONLY, 0644);
    assert(fd != -1 && close(fd) == 0);
  }
  int seen = 0, fd = open("/data/dir", O_RDONLY | O_DIRECTORY);
  DIR *d = fdopendir(fd);
  assert(d);
  for (struct dirent *e; (e = readdir(d));) {
    struct stat st;
    assert(fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 || e->d_name[0] == '.');
    if (e->d_name[0] != '.') seen++, assert(st.st_ino == e->d_ino && e->d_type == DT_REG);
  }
  assert(seen == 10 && closedir(d) == 0);
  FAILS(rmdir("/data/dir"), ENOTEMPTY);
  FAILS(unlink("/data/dir"), EISDIR);
  assert(rename("/data/dir/0", "/data/zero") == 0 && unlink("/data/zero") == 0);
}

static void links(void) {
  char buf[32];
  struct stat a, b;
  assert(symlink("file", "/data/soft") == 0 && readlink("/data/soft", buf, sizeof buf) == 4);
  assert(link("/data/file", "/data/hard") == 0);
  assert(stat("/data/soft", &a) == 0 && stat("/data/hard", &b) == 0);
  assert(a.st_ino == b.st_ino && a.st_dev == b.st_dev && b.st_nlink == 2);
  assert(lstat("/data/soft", &a) == 0 && S_ISLNK(a.st_mode));
  FAILS(open("/data/soft", O_RDONLY | O_NOFOLLOW), ELOOP);
  struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1234, .tv_nsec = 567}};
  assert(utimensat(AT_FDCWD, "/data/hard", times, 0) == 0 && stat("/data/file", &a) == 0);
  assert(a.st_mtim.tv_sec == 1234 && a.st_mtim.tv_nsec == 567 && a.st_atim.tv_sec != 1234);
}

static void waiting(void) {
  struct pollfd in = {.fd = 0, .events = POLLRDNORM};
  assert(poll(&in, 1, -1) == 1 && (in.revents & POLLRDNORM));
  struct timespec before, after, nap = {.tv_nsec = 2000000};
  assert(clock_gettime(CLOCK_MONOTONIC, &before) == 0 && nanosleep(&nap, 0) == 0);
  assert(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
  assert((after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec >= 2000000);
  FAILS(lseek(0, 0, SEEK_CUR), ESPIPE);
  assert(!isatty(0) && !isatty(1));
}

int main(int argc, char **argv) {
  assert(argc == 2 && strcmp(argv[1], "arg") == 0 && strcmp(getenv("NAME"), "value") == 0);
  files();
  directories();
  links();
  waiting();
  for (int c; (c = getchar()) != EOF;) putchar(c);
  return 3;
}

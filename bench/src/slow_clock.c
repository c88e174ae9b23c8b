// The monotonic clock, ten thousand times slower, for a server that `bench instructions` counts: callgrind makes every poll
// many times longer, and byname polls a function inline only while its polls are short. This library is preloaded, so it
// is in the counts of all builds alike.

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000L

int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result != 0 || clock != CLOCK_MONOTONIC) {
        return (int)result;
    }
    // The main thread reads it before there is another thread.
    static long first = 0;
    long time = now->tv_sec * SECOND + now->tv_nsec;
    if (first == 0) {
        first = time;
    }
    // It is ahead of the kernel's, so that a thread that sleeps until a time does not wake at once, again and again.
    time = first + 1000000 * SECOND + (time - first) / 10000;
    now->tv_sec = time / SECOND;
    now->tv_nsec = time % SECOND;
    return 0;
}

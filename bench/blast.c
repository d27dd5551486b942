/* Send or count UDP datagrams, many per system call, so that the generator is not what is measured.
 *
 *   blast send ADDRESS PORT SIZE RATE SECONDS   RATE datagrams/s, evenly in ticks of half a millisecond; prints: sent ns
 *   blast count ADDRESS PORT                    prints "ready"; after SIGTERM: received
 *
 * IPv4 only. What the socket refuses (full buffer) counts as sent: it is lost to whoever asked for it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, MAX_SIZE = 1472, TICK_NS = 500000, NS_PER_S = 1000000000, BUFFER_BYTES = 4 << 20 };

static volatile sig_atomic_t stopped;
static char payload[BATCH][MAX_SIZE];
static struct mmsghdr messages[BATCH];
static struct iovec vectors[BATCH];

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void sleep_until(int64_t at_ns)
{
    struct timespec at = {.tv_sec = at_ns / NS_PER_S, .tv_nsec = at_ns % NS_PER_S};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static int open_socket(const char *address, const char *port, int (*attach)(int, const struct sockaddr *, socklen_t))
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int bytes = BUFFER_BYTES;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, address, &peer.sin_addr) != 1)
        fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
    if (attach(fd, (struct sockaddr *)&peer, sizeof peer))
        fail("connect or bind");
    return fd;
}

static void prepare(size_t size)
{
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){payload[i], size};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
}

static int64_t send_due(int fd, int64_t due)
{
    int64_t sent = 0;
    while (sent < due) {
        int64_t left = due - sent;
        int done = sendmmsg(fd, messages, left < BATCH ? (unsigned)left : BATCH, 0);
        if (done < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ECONNREFUSED)
            fail("sendmmsg");
        sent += done > 0 ? done : 1;
    }
    return sent;
}

static void send_for(int fd, double rate, double seconds)
{
    int64_t start = now_ns(), end = start + (int64_t)(seconds * NS_PER_S), sent = 0, now = start;
    for (int64_t tick = start; now < end; tick += TICK_NS) {
        sleep_until(tick);
        now = now_ns();
        int64_t due = (int64_t)((double)(now - start) * rate / NS_PER_S) - sent;
        sent += send_due(fd, due < (int64_t)rate / 100 ? due : (int64_t)rate / 100);
    }
    printf("%lld %lld\n", (long long)sent, (long long)(now - start));
}

static void count(int fd)
{
    int64_t received = 0;
    struct timeval patience = {.tv_usec = 100000}; /* a TERM just before the call must not be missed */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    puts("ready");
    fflush(stdout);
    while (!stopped) {
        int done = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
        if (done > 0)
            received += done;
    }
    printf("%lld\n", (long long)received);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    if (argc == 7 && !strcmp(argv[1], "send") && atoi(argv[4]) > 0 && atoi(argv[4]) <= MAX_SIZE) {
        prepare((size_t)atoi(argv[4]));
        send_for(open_socket(argv[2], argv[3], connect), atof(argv[5]), atof(argv[6]));
        return 0;
    }
    if (argc == 4 && !strcmp(argv[1], "count")) {
        prepare(MAX_SIZE);
        count(open_socket(argv[2], argv[3], bind));
        return 0;
    }
    fputs("usage: see the head of blast.c\n", stderr);
    return 2;
}

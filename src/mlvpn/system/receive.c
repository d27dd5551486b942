/* See receive.h. Sources: man 2 recvmmsg, man 7 socket, ip, ipv6; net/ipv4/udp.c (UDP_GRO). */
#define _GNU_SOURCE
#include "receive.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MESSAGE_BYTES 65536u
#define TRAIN_BYTES 65535u /* as long as a train of the kernel's can be */
#define MOST_MESSAGES 64u
#define JOIN_WITHIN_NS 500000 /* both as in join.py */
#define STRETCH_WITHIN_NS 100000000
#define STAMP_AT 12u /* the native protocol's time stamp: wire/header.py */
#define STAMP_BYTES 4u
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* Room for the time of arrival, the size of a train's datagrams, and the larger of two own addresses. */
union control {
    struct cmsghdr aligned;
    uint8_t bytes[CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(int)) + CMSG_SPACE(20)];
};

static void note_control(struct received_train *train, struct cmsghdr *control) {
    size_t bytes = control->cmsg_len - CMSG_LEN(0);
    if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SO_TIMESTAMPNS && bytes >= sizeof(struct timespec)) {
        struct timespec at;
        memcpy(&at, CMSG_DATA(control), sizeof at);
        train->arrival_ns = at.tv_sec * 1000000000LL + at.tv_nsec;
    } else if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO && bytes >= sizeof(int)) {
        int size;
        memcpy(&size, CMSG_DATA(control), sizeof size);
        if (size > 0) train->datagram_bytes = (uint32_t)size;
    } else if ((control->cmsg_level == IPPROTO_IP || control->cmsg_level == IPPROTO_IPV6) && bytes <= sizeof train->own) {
        train->own_level = control->cmsg_level;
        train->own_kind = control->cmsg_type;
        train->own_bytes = (uint32_t)bytes;
        memcpy(train->own, CMSG_DATA(control), bytes);
    }
}

int receive_trains(int fd, uint8_t *arena, struct received_train *trains, size_t count, uint32_t *empty) {
    static _Thread_local struct mmsghdr messages[MOST_MESSAGES];
    static _Thread_local struct iovec places[MOST_MESSAGES];
    static _Thread_local union control controls[MOST_MESSAGES];
    if (count > MOST_MESSAGES) count = MOST_MESSAGES;
    memset(trains, 0, count * sizeof *trains);
    *empty = 0;
    for (size_t i = 0; i < count; i++) {
        places[i] = (struct iovec){arena + i * MESSAGE_BYTES, MESSAGE_BYTES};
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = trains[i].source,
            .msg_namelen = sizeof trains[i].source,
            .msg_iov = &places[i],
            .msg_iovlen = 1,
            .msg_control = controls[i].bytes,
            .msg_controllen = sizeof controls[i].bytes,
        };
    }
    int found = recvmmsg(fd, messages, (unsigned)count, MSG_DONTWAIT, NULL);
    if (found < 0) return -errno;
    for (int i = 0; i < found; i++) {
        struct msghdr *header = &messages[i].msg_hdr;
        struct received_train *train = &trains[i];
        train->start = (uint32_t)i * MESSAGE_BYTES;
        train->bytes = train->datagram_bytes = messages[i].msg_len;
        *empty += train->bytes == 0;
        for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control))
            note_control(train, control);
    }
    return found;
}

/* Whether two trains of one size left at the same moment, as far as time stamps that nobody has proven can say. */
static int left_together(const uint8_t *arena, const struct received_train *first, const struct received_train *next) {
    return next->arrival_ns <= first->arrival_ns + STRETCH_WITHIN_NS && next->bytes >= STAMP_AT + STAMP_BYTES &&
           first->datagram_bytes >= STAMP_AT + STAMP_BYTES &&
           memcmp(arena + next->start + STAMP_AT, arena + first->start + STAMP_AT, STAMP_BYTES) == 0;
}

static int continues(const uint8_t *arena, const struct received_train *first, const struct received_train *next) {
    uint32_t size = first->datagram_bytes;
    int fits = next->datagram_bytes == size || (next->bytes <= next->datagram_bytes && next->datagram_bytes < size);
    return fits && first->bytes % size == 0 && next->bytes <= TRAIN_BYTES - first->bytes &&
           (next->arrival_ns <= first->arrival_ns + JOIN_WITHIN_NS || left_together(arena, first, next)) &&
           memcmp(next->source, first->source, sizeof next->source) == 0 && arena[next->start] == arena[first->start];
}

size_t receive_join(uint8_t *arena, struct received_train *trains, size_t count) {
    struct received_train *last = NULL;
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        struct received_train *next = &trains[i];
        if (next->bytes == 0) continue;
        if (last && continues(arena, last, next)) {
            memcpy(arena + last->start + last->bytes, arena + next->start, next->bytes);
            last->bytes += next->bytes;
            last->stretch_ns = next->arrival_ns - last->arrival_ns;
            if (last->stretch_ns <= JOIN_WITHIN_NS) last->stretch_ns = 0;
        } else {
            if (&trains[left] != next) trains[left] = *next;
            last = &trains[left++];
        }
    }
    return left;
}

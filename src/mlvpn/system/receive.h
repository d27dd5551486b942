/* Reading a UDP socket: many trains of datagrams with one system call, and what came one by one joined to trains.
 *
 * The specification is in Python: `PythonReader.read` of system/receive.py and system/join.py.
 * cffi does not see lines that begin with #.
 */
#include <stddef.h>
#include <stdint.h>

/* One train: datagrams of `datagram_bytes` each, only the last may be shorter, at `start` in the arena. */
struct received_train {
    int64_t arrival_ns;      /* of the first datagram, on the wall clock; 0: the kernel did not say */
    int64_t stretch_ns;       /* how much later the last one came, if they left at one moment */
    uint32_t start;
    uint32_t bytes;
    uint32_t datagram_bytes;
    uint8_t source[28];      /* a struct sockaddr, the rest zeros */
    int32_t own_level;       /* of the control message that said where it arrived */
    int32_t own_kind;
    uint32_t own_bytes;      /* 0: none did */
    uint8_t own[20];
};

/* Reads what is there into `arena`, at most `count` messages of 65,536 bytes each; `trains` has as many places. Returns
 * how many messages there were, and in `trains` what they are, not joined; or -errno. `empty` of them had no byte. */
int receive_trains(int fd, uint8_t *arena, struct received_train *trains, size_t count, uint32_t *empty);

/* Joins neighbours in place, empty messages left out; returns how many trains are left. Each train lies at the start of
 * 65,536 bytes of its own, before the next one. */
size_t receive_join(uint8_t *arena, struct received_train *trains, size_t count);

/* What every fuzzer needs: the same random numbers everywhere, buffers of noise, and a condition that must hold. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not true: %s (seed %llu, round %lu)\n", __FILE__, __LINE__, #condition, seed, at); \
            abort(); \
        } \
    } while (0)

static unsigned long long seed, state;
static unsigned long at;

/* xorshift64 (Marsaglia 2003): the same numbers everywhere. */
static uint64_t random64(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static size_t below(size_t limit)
{
    return (size_t)(random64() >> 11) % limit;
}

static inline uint8_t *noise(size_t bytes)
{
    uint8_t *data = malloc(bytes ? bytes : 1);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)random64();
    return data;
}

/* Reads SEED and ROUNDS from the command line; returns the rounds, or ends. */
static unsigned long begin(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s SEED ROUNDS\n", argv[0]);
        exit(2);
    }
    seed = strtoull(argv[1], NULL, 10);
    state = seed * 2 + 1; /* never 0 */
    return strtoul(argv[2], NULL, 10);
}

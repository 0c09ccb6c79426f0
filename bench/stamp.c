/* stamp FIFO [COMMAND...]: writes the time of our first instruction (CLOCK_MONOTONIC) to
 * FIFO, as eight bytes of nanoseconds; then becomes COMMAND, if there is one. Linked
 * statically, so that no loader runs before that instruction. */
#include <fcntl.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t stamp = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    int fifo = argc > 1 ? open(argv[1], O_WRONLY | O_CLOEXEC) : -1;
    if (fifo < 0 || write(fifo, &stamp, sizeof stamp) != sizeof stamp)
        return 1;
    if (argc > 2) {
        execv(argv[2], argv + 2);
        return 127;
    }
    return 0;
}

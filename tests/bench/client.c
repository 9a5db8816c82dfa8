/*
 * client.c - a vfio-user client that does nothing but measure: any server, one socket, no threads.
 *
 * client SOCKET [raw]: connects and says VERSION (raw: says nothing, for echo.c). Then one line in, one line
 * out. All figures are ns. What is called a mean is the lower quartile of the means of short blocks (shorter
 * than a scheduler's slice): what else the machine does is seen in the others. `spin` makes it poll the
 * socket instead of sleeping in it.
 *
 *   read REGION OFFSET SIZE COUNT          mean of a round trip
 *   walk REGION OFFSET SIZE COUNT SPAN     mean of a read, each elsewhere in the SPAN bytes from OFFSET on
 *   spread REGION OFFSET SIZE COUNT        50th percentile, 99th, the longest
 *   write REGION OFFSET SIZE COUNT         mean of a write with reply
 *   post REGION OFFSET SIZE COUNT BATCH    mean of a write without reply, BATCH messages a send; then a read
 *   until REGION OFFSET SIZE SECONDS       reads for so long: how many, 50th percentile, 99th
 *   during REGION OFFSET SIZE FROM TO      reads between two times of CLOCK_MONOTONIC, ns: how many
 *   also SOCKET                            connects there, too: reads take turns among all
 *   echo COUNT                             32 bytes out, 36 back: what `read` moves, and nothing else
 *   spin 0|1
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, REGION_READ = 9, REGION_WRITE = 10, NO_REPLY = 0x10, ERROR = 0x20 };
enum { MOST = 1 << 22, BLOCK = 20, SENDS = 10, MOST_SERVERS = 256 };

struct header {
    uint16_t id, command;
    uint32_t size, flags, error;
};

struct access {
    struct header header;
    uint64_t offset;
    uint32_t region, count;
    uint8_t data[4096];
};

static int server, flags, servers[MOST_SERVERS], server_count;
static uint32_t times[MOST];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void put(const void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = send(server, (const char *)bytes + done, size - done, MSG_NOSIGNAL);

        if (n < 0)
            fail("send");
        done += (size_t)n;
    }
}

static void take(void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = recv(server, (char *)bytes + done, size - done, flags);

        if (n < 0 && errno == EAGAIN)
            continue;
        if (n <= 0)
            fail("recv");
        done += (size_t)n;
    }
}

static struct access message(unsigned command, unsigned region, unsigned long offset, unsigned size)
{
    uint32_t data = command == REGION_WRITE ? size : 0;

    if (size > sizeof ((struct access *)0)->data)
        exit(2);
    return (struct access){
        .header = {.command = (uint16_t)command, .size = 32 + data}, .offset = offset, .region = region,
        .count = size,
    };
}

/* One request and its reply. */
static void ask(struct access *request)
{
    static struct access reply;
    size_t size = request->header.command == REGION_READ ? 32 + request->count : 32;

    request->header.id++;
    put(request, request->header.size);
    take(&reply, 16);
    if (reply.header.flags & ERROR || reply.header.id != request->header.id || reply.header.size != size)
        exit(3);
    take((char *)&reply + 16, size - 16);
}

/* As ask(), with one recv: for a stream that has nothing else in it. */
static void ask_quickly(struct access *request)
{
    static struct access reply;
    size_t size = request->header.command == REGION_READ ? 32 + request->count : 32, had = 0;
    static int turn;

    server = servers[turn++ % server_count];
    request->header.id++;
    put(request, request->header.size);
    while (had < size) {
        ssize_t n = recv(server, (char *)&reply + had, size - had, flags);

        if (n < 0 && errno == EAGAIN)
            continue;
        if (n <= 0)
            fail("recv");
        had += (size_t)n;
        if (had >= 16 && reply.header.flags & ERROR)
            exit(3);
    }
    if (reply.header.id != request->header.id)
        exit(3);
}

static int compare(const void *one, const void *two)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)two;

    return (a > b) - (a < b);
}

/* Sorts n times and returns their lower quartile. */
static double undisturbed(unsigned long n)
{
    qsort(times, n, sizeof *times, compare);
    return times[n / 4];
}

/* Each read is at another of the places in the span, a long way from the last one; all get their turn. */
static double walk(struct access request, unsigned long count, unsigned long span)
{
    unsigned long base = request.offset, places = span / request.count, place = 0, blocks = count / BLOCK + 1;

    for (unsigned long block = 0; block < blocks && block < MOST; block++) {
        uint64_t start = now();

        for (unsigned i = 0; i < BLOCK; i++) {
            place = (place + 2654435761u) % places;
            request.offset = base + place * request.count;
            ask_quickly(&request);
        }
        times[block] = (uint32_t)(now() - start);
    }
    return undisturbed(blocks) / BLOCK;
}

static double mean(struct access request, unsigned long count)
{
    return walk(request, count, request.count);
}

/* Times each access, `count` of them or until the clock says so; sorts. */
static unsigned long sample(struct access request, unsigned long count, uint64_t until)
{
    unsigned long n = 0;
    uint64_t before = now();

    while (n < count && n < MOST && (!until || before < until)) {
        uint64_t after;

        ask_quickly(&request);
        after = now();
        times[n++] = (uint32_t)(after - before);
        before = after;
    }
    qsort(times, n, sizeof *times, compare);
    return n;
}

static unsigned long during(struct access request, uint64_t from, uint64_t to)
{
    struct timespec start = {(time_t)(from / 1000000000u), (long)(from % 1000000000u)};
    unsigned long n = 0;

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &start, NULL))
        ;
    for (; now() < to; n++)
        ask_quickly(&request);
    return n;
}

/* A block ends with a read, so that all is done. */
static double post(unsigned region, unsigned long offset, unsigned size, unsigned long count, unsigned batch)
{
    struct access write = message(REGION_WRITE, region, offset, size);
    struct access read = message(REGION_READ, region, offset, size);
    char *bytes = malloc((size_t)batch * write.header.size);
    unsigned long block = 0;

    write.header.flags = NO_REPLY;
    for (unsigned i = 0; i < batch; i++)
        memcpy(bytes + (size_t)i * write.header.size, &write, write.header.size);
    for (; block < count / batch / SENDS + 1 && block < MOST; block++) {
        uint64_t start = now();

        for (unsigned i = 0; i < SENDS; i++)
            put(bytes, (size_t)batch * write.header.size);
        ask(&read);
        times[block] = (uint32_t)(now() - start);
    }
    free(bytes);
    return undisturbed(block) / SENDS / batch;
}

static double echo(unsigned long count)
{
    unsigned long block = 0;
    char bytes[36] = {0};

    for (; block < count / BLOCK + 1 && block < MOST; block++) {
        uint64_t start = now();

        for (unsigned i = 0; i < BLOCK; i++) {
            put(bytes, 32);
            take(bytes, 36);
        }
        times[block] = (uint32_t)(now() - start);
    }
    return undisturbed(block) / BLOCK;
}

static void greet(void)
{
    static const char says[] = "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";
    struct {
        struct header header;
        uint16_t major, minor;
        char json[sizeof says];
    } __attribute__((packed)) hello = {{1, VERSION, sizeof hello, 0, 0}, 0, 1, ""};
    struct header reply;
    char rest[4096];

    memcpy(hello.json, says, sizeof says);
    put(&hello, sizeof hello);
    take(&reply, sizeof reply);
    if (reply.flags & ERROR || reply.size < 16 || reply.size - 16 > sizeof rest)
        exit(3);
    take(rest, reply.size - 16);
}

static void dial(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path || server_count == MOST_SERVERS)
        exit(2);
    strcpy(address.sun_path, path);
    server = socket(AF_UNIX, SOCK_STREAM, 0);
    if (server < 0 || connect(server, (struct sockaddr *)&address, sizeof address))
        fail(path);
    servers[server_count++] = server;
}

static void obey(const char *line)
{
    unsigned region, size, batch;
    unsigned long offset, count, span, n;
    char path[108];
    double seconds;

    if (sscanf(line, "read %u %lu %u %lu", &region, &offset, &size, &count) == 4) {
        printf("%.1f\n", mean(message(REGION_READ, region, offset, size), count));
    } else if (sscanf(line, "walk %u %lu %u %lu %lu", &region, &offset, &size, &count, &span) == 5) {
        printf("%.1f\n", walk(message(REGION_READ, region, offset, size), count, span));
    } else if (sscanf(line, "write %u %lu %u %lu", &region, &offset, &size, &count) == 4) {
        printf("%.1f\n", mean(message(REGION_WRITE, region, offset, size), count));
    } else if (sscanf(line, "post %u %lu %u %lu %u", &region, &offset, &size, &count, &batch) == 5) {
        printf("%.1f\n", post(region, offset, size, count, batch));
    } else if (sscanf(line, "spread %u %lu %u %lu", &region, &offset, &size, &count) == 4) {
        n = sample(message(REGION_READ, region, offset, size), count, 0);
        printf("%u %u %u\n", times[n / 2], times[n * 99 / 100], times[n - 1]);
    } else if (sscanf(line, "until %u %lu %u %lf", &region, &offset, &size, &seconds) == 4) {
        n = sample(message(REGION_READ, region, offset, size), MOST, now() + (uint64_t)(seconds * 1e9));
        printf("%lu %u %u\n", n, times[n / 2], times[n * 99 / 100]);
    } else if (sscanf(line, "during %u %lu %u %lu %lu", &region, &offset, &size, &count, &span) == 5) {
        printf("%lu\n", during(message(REGION_READ, region, offset, size), count, span));
    } else if (sscanf(line, "also %107s", path) == 1) {
        dial(path);
        greet();
        printf("%d\n", server_count);
    } else if (sscanf(line, "echo %lu", &count) == 1) {
        printf("%.1f\n", echo(count));
    } else if (sscanf(line, "spin %u", &size) == 1) {
        flags = size ? MSG_DONTWAIT : 0;
        printf("0\n");
    } else {
        exit(2);
    }
    fflush(stdout);
}

int main(int count, char **arguments)
{
    char line[128];

    if (count < 2)
        return 2;
    dial(arguments[1]);
    if (count == 2)
        greet();
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        obey(line);
    return 0;
}

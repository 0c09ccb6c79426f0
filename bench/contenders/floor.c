/* floor HOSTS ZNODES RUN_ON_LOAD COMMAND...: does the least that any program has to do to
 * run COMMAND, with the contents on its stdin, when a znode changes. ZNODES is a file with
 * one path per line; RUN_ON_LOAD is 0 or 1. It restores nothing, logs nothing and does not
 * wait for its children: it is only the floor that others are measured against.
 *
 * A watch fires once: after an event, one request reads the contents and sets the next
 * watch. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

extern char **environ;

struct znode {
    struct znode *next;
    int seen;
    char path[];
};

static struct znode *znodes;
static int run_on_load;
static char **command;
static posix_spawnattr_t attributes;

static void run(const char *contents, int length)
{
    int ends[2];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return;
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    if (length > 65536)
        fcntl(ends[1], F_SETPIPE_SZ, length);
    if (length > 0 && write(ends[1], contents, length) != length)
        fprintf(stderr, "floor: contents are cut\n");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0);
    if (posix_spawnp(&pid, command[0], &actions, &attributes, command, environ) != 0)
        fprintf(stderr, "floor: no run\n");
    posix_spawn_file_actions_destroy(&actions);
    close(ends[0]);
    close(ends[1]);
}

static void read_it(int code, const char *contents, int length, const struct Stat *stat, const void *data)
{
    struct znode *znode = (struct znode *)data;
    if (code != ZOK)
        return;
    if (znode->seen || run_on_load)
        run(contents, length);
    znode->seen = 1;
}

static void changed(zhandle_t *client, int type, int state, const char *path, void *context)
{
    struct znode *znode = context;
    if (type != ZOO_SESSION_EVENT)
        zoo_awget(client, znode->path, changed, znode, read_it, znode);
}

static void session(zhandle_t *client, int type, int state, const char *path, void *context)
{
    if (type == ZOO_SESSION_EVENT && state == ZOO_CONNECTED_STATE)
        for (struct znode *znode = znodes; znode; znode = znode->next)
            zoo_awget(client, znode->path, changed, znode, read_it, znode);
}

int main(int argc, char **argv)
{
    char line[4096];
    FILE *list;
    sigset_t children;
    if (argc < 5 || !(list = fopen(argv[2], "r")))
        return 2;
    while (fgets(line, sizeof line, list)) {
        line[strcspn(line, "\n")] = '\0';
        struct znode *znode = calloc(1, sizeof *znode + strlen(line) + 1);
        strcpy(znode->path, line);
        znode->next = znodes;
        znodes = znode;
    }
    fclose(list);
    run_on_load = atoi(argv[3]);
    command = argv + 4;
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &children);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    if (!zookeeper_init(argv[1], session, 10000, NULL, NULL, 0))
        return 1;
    for (;;)
        pause();
}

/*
 * echo.c - the floor: a server of one recv and one send a request, that moves what a 4-byte read moves.
 *
 * echo SOCKET: says "ready" when it listens, serves one client after another.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listening = socket(AF_UNIX, SOCK_STREAM, 0), client;
    char bytes[4096];

    if (count != 2 || strlen(arguments[1]) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, arguments[1]);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 1))
        return 1;
    printf("ready\n");
    fflush(stdout);
    while ((client = accept(listening, NULL, NULL)) >= 0) {
        while (recv(client, bytes, sizeof bytes, 0) > 0)
            if (send(client, bytes, 36, MSG_NOSIGNAL) != 36)
                break;
        close(client);
    }
    return 0;
}

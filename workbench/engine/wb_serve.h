/*
 * wb_serve.h - the part of the C interface that serves clients; comes after wb.h, and is read as that is.
 */

/* ---- gate.c: pause and step ---- */

void wb_gate_pause(wb_device *device, int on);              /* 1: the guest's next region access waits */
void wb_gate_step(wb_device *device, uint32_t accesses);    /* lets so many pass while paused */
int wb_gate_waiting(wb_device *device);                     /* 1: an access waits now */
void wb_gate_abandon(wb_device *device, int on);           /* 1: guests are answered without hooks: we stop */
/*
 * Closes the gate, for a moment, beside whoever pauses, and waits for the access that has passed: -ETIMEDOUT
 * (and it is open again) when that does not end. Does not wait in the serving thread, nor for 0 ms.
 */
int wb_gate_hold(wb_device *device, uint32_t timeout_ms);
void wb_gate_release(wb_device *device);

/* ---- turn.c: after the reply ---- */

/* The request that the calling thread is answering; 0: it answers none. */
uint64_t wb_turn_now(wb_device *device);
/* Blocks until that request was answered, or its conversation ended; at once for 0. */
void wb_turn_wait(wb_device *device, uint64_t turn);

/* ---- server.c: the loop ---- */

/*
 * Serves one client on a connected stream socket until it goes (0), breaks the protocol (-EPROTO), sends
 * descriptors when none are left here (-EMFILE), or the socket fails (-errno). Shutting the socket down from
 * another thread ends it. On return the client's DMA maps and eventfds are gone, the device's state is kept.
 */
int wb_serve(wb_device *device, int socket);
/*
 * From the next message on: after each one, look for another so long before sleeping. 0 at first: sleep. Not
 * for a device in a poller, which has its own.
 */
void wb_serve_poll(wb_device *device, uint32_t microseconds);
/* Called by the message upcall when it accepts VERSION: the conversation is open. */
void wb_serve_accept(wb_device *device, uint32_t max_transfer, int write_multiple);
void wb_serve_trace(wb_device *device, int on);

/* ---- poller.c: one thread that serves several ---- */

typedef struct wb_poller wb_poller;

enum wb_poller_limit { WB_MAX_POLLED = 256 };                /* conversations at once */

/*
 * spin_us: how long it looks for messages, after the last, before it sleeps; 0: not at all. NULL: no memory.
 */
wb_poller *wb_poller_new(uint32_t spin_us);
/*
 * Serves until it is stopped, and returns when nobody is in wb_poller_serve() any more. Upcalls come from
 * here.
 */
void wb_poller_run(wb_poller *poller);
/*
 * As wb_serve(), but the thread in wb_poller_run() answers; waits for it. That thread never waits at a closed
 * gate, or for a client that takes its replies slowly, but serves the others meanwhile: only upcalls hold
 * them up. The socket's mode does not matter. -ENOSPC: WB_MAX_POLLED are served; -ESHUTDOWN: it was stopped.
 */
int wb_poller_serve(wb_poller *poller, wb_device *device, int socket);
void wb_poller_stop(wb_poller *poller);                     /* from any thread; ends all conversations */
void wb_poller_free(wb_poller *poller);                     /* after wb_poller_run() */

/* tools/server_peer.c: open connections, and when one of them has to go.
 *
 * A connection is at rest (nothing of a request, or not all of its header), receiving a body, with a handler, or sending. Times
 * count from when it came into its state, not from its last byte: who sends a byte now and then would stay for ever. A
 * connection is ended by shutting its socket down; libmicrohttpd does the rest. */
#include <sys/socket.h>

#include "tools/server_private.h"

/* A connection that has been at rest or receiving for so long may be closed for a new one when there are too many. */
#define GIVE_WAY_NS INT64_C(1000000000)

void peer_set(struct peer *peer, struct clock *clock, enum peer_state state)
{
    if (!peer) return;
    atomic_store_explicit(&peer->since_ns, clock_mono_ns(clock), memory_order_relaxed);
    atomic_store_explicit(&peer->state, state, memory_order_relaxed);
}

void peer_add(struct server *server, int fd, void **socket_cls)
{
    struct peer *peer = mem_calloc(MEM_HTTP, 1, sizeof(*peer));
    *socket_cls = peer;
    if (!peer) return; /* it is served, but cannot be asked to give way */
    peer->fd = fd;
    peer_set(peer, server->env.clock, PEER_AT_REST);
    lock_take(&server->lock);
    peer->next = server->peers;
    if (peer->next) peer->next->prev = peer;
    server->peers = peer;
    server->n_peers++;
    lock_release(&server->lock);
}

/* Before the socket is closed: until then its number is nobody else's. */
void peer_remove(struct server *server, struct peer *peer)
{
    if (!peer) return;
    lock_take(&server->lock);
    if (peer->prev)
        peer->prev->next = peer->next;
    else
        server->peers = peer->next;
    if (peer->next) peer->next->prev = peer->prev;
    server->n_peers--;
    lock_release(&server->lock);
    mem_free(peer);
}

/* Under the lock, which keeps peer_remove() from letting the socket go. */
static void peer_end(struct peer *peer)
{
    shutdown(peer->fd, SHUT_RDWR);
    atomic_store_explicit(&peer->state, PEER_ENDED, memory_order_relaxed); /* not twice */
}

/* The one that has been at rest or receiving for longest, if that is long enough. So clients that only sit there, or send a
 * byte now and then, cannot lock others out. */
bool peers_make_room(struct server *server)
{
    int64_t oldest_ns = clock_mono_ns(server->env.clock) - GIVE_WAY_NS;
    struct peer *oldest = NULL;
    lock_take(&server->lock);
    bool full = server->n_peers >= server->config.connections_max;
    for (struct peer *peer = full ? server->peers : NULL; peer; peer = peer->next) {
        int64_t since_ns = atomic_load_explicit(&peer->since_ns, memory_order_relaxed);
        enum peer_state state = atomic_load_explicit(&peer->state, memory_order_relaxed);
        if ((state != PEER_AT_REST && state != PEER_RECEIVING) || since_ns >= oldest_ns) continue;
        oldest = peer;
        oldest_ns = since_ns;
    }
    if (oldest) peer_end(oldest);
    lock_release(&server->lock);
    return !full || oldest;
}

static int64_t longest_ms(const struct server *server, enum peer_state state)
{
    switch (state) {
    case PEER_AT_REST:
    case PEER_SENDING: return server->config.idle_timeout_ms;
    case PEER_RECEIVING: return server->config.receive_timeout_ms;
    default: return INT64_MAX;
    }
}

void peers_end_slow(struct server *server)
{
    int64_t now_ns = clock_mono_ns(server->env.clock);
    uint64_t n = 0;
    lock_take(&server->lock);
    for (struct peer *peer = server->peers; peer; peer = peer->next) {
        int64_t since_ns = atomic_load_explicit(&peer->since_ns, memory_order_relaxed);
        enum peer_state state = atomic_load_explicit(&peer->state, memory_order_relaxed);
        if ((now_ns - since_ns) / 1000000 < longest_ms(server, state)) continue;
        peer_end(peer);
        n += state != PEER_AT_REST;
    }
    lock_release(&server->lock);
    if (n) metric_add(server->slow_total, n);
}

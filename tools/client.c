/* tools/client.c */
#include "tools/client.h"

#include <curl/curl.h>
#include <stdio.h>

#include "base/clock.h"
#include "tools/cli.h"

/* A server that answers without end must not fill our memory. */
#define ANSWER_BYTES_MAX ((size_t)1 << 30)

struct client {
    CURL *curl;
    struct curl_slist *headers;
    struct client_answer *answer;               /* of the call under way */
    bool (*take)(void *ctx, struct bytes part); /* of the call under way; NULL: into the answer */
    void *take_ctx;
    char error[CURL_ERROR_SIZE];
};

enum err_code client_global_init(struct err *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) return ERR_OK;
    return err_set(err, ERR_EXECUTION, "libcurl does not start");
}

static size_t take_body(char *p, size_t size, size_t n, void *ctx)
{
    struct client *client = ctx;
    struct buf *body = &client->answer->body;
    long status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (client->take && status == 200)
        return client->take(client->take_ctx, bytes_of(p, size * n)) ? size * n : 0;
    if (body->len + size * n > ANSWER_BYTES_MAX) return 0;
    buf_put(body, p, size * n);
    return body->failed ? 0 : size * n;
}

enum err_code client_new(const char *const *headers, int64_t timeout_ms, struct client **out,
                         struct err *err)
{
    struct client *client = mem_calloc(MEM_TOOLS, 1, sizeof(*client));
    if (client) client->curl = curl_easy_init();
    if (!client || !client->curl) {
        client_free(client);
        return err_set(err, ERR_NO_MEMORY, "no memory for a connection");
    }
    /* curl would wait for "100 Continue" before bodies over 1 MiB. */
    client->headers = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; headers && headers[i]; i++)
        client->headers = curl_slist_append(client->headers, headers[i]);
    CURL *curl = client->curl;
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, client->headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, client);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->error);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "quipu/" QUIPU_VERSION);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    *out = client;
    return ERR_OK;
}

void client_free(struct client *client)
{
    if (!client) return;
    curl_slist_free_all(client->headers);
    curl_easy_cleanup(client->curl);
    mem_free(client);
}

void client_answer_init(struct client_answer *answer)
{
    *answer = (struct client_answer){0};
    buf_init(&answer->body, MEM_TOOLS);
}

void client_answer_release(struct client_answer *answer)
{
    buf_release(&answer->body);
}

enum err_code client_ask(struct client *client, const char *url, const struct bytes *post,
                         struct client_answer *answer, struct err *err)
{
    CURL *curl = client->curl;
    buf_reset(&answer->body);
    answer->status = 0;
    answer->content_type[0] = 0;
    client->answer = answer;
    client->error[0] = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    if (post) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, post->p ? (const char *)post->p : "");
    } else {
        curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
    }
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK) {
        long status = 0;
        const char *type = NULL;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
        answer->status = (unsigned)status;
        snprintf(answer->content_type, sizeof(answer->content_type), "%s", type ? type : "");
        return ERR_OK;
    }
    const char *why = client->error[0] ? client->error : curl_easy_strerror(code);
    enum err_code rc = code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT
                       : code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL
                           ? ERR_INVALID
                           : ERR_IO;
    return err_set(err, rc, "%s: %s", url, why);
}

enum err_code client_ask_streamed(struct client *client, const char *url, const struct bytes *post,
                                  bool (*take)(void *ctx, struct bytes part), void *ctx,
                                  struct client_answer *answer, struct err *err)
{
    client->take = take;
    client->take_ctx = ctx;
    enum err_code rc = client_ask(client, url, post, answer, err);
    client->take = NULL;
    return rc;
}

void client_param(struct buf *out, const char *name, struct str value)
{
    static const char hex[] = "0123456789ABCDEF";
    if (out->len) buf_u8(out, '&');
    buf_text(out, str_of(name));
    buf_u8(out, '=');
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~';
        if (plain) {
            buf_u8(out, c);
        } else {
            buf_u8(out, '%');
            buf_u8(out, (uint8_t)hex[c >> 4]);
            buf_u8(out, (uint8_t)hex[c & 15]);
        }
    }
}

enum err_code client_param_time(struct buf *out, const char *name, const char *text,
                                struct err *err)
{
    char seconds[32];
    int64_t t_ms;
    if (!text) return ERR_OK;
    enum err_code rc = cli_parse_time(str_of(text), clock_wall_ms(clock_system()), &t_ms, err);
    if (rc) return err_context(err, "--%s", name);
    snprintf(seconds, sizeof(seconds), "%.3f", (double)t_ms / 1000);
    client_param(out, name, str_of(seconds));
    return ERR_OK;
}

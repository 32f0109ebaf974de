#include "io/https.h"

#include <bearssl.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "io/proxy_tunnel.h"
#include "platform/clock.h"
#include "platform/entropy.h"

/* What libcurl needs at its peak (https_peak_memory tells): for each client two connections with
 * their TLS buffers, and the roots, which take up 2.4 times their PEM while they are read; and room
 * to spare. */
#define CLIENT_MEMORY_SIZE ((size_t)112 * 1024)
#define ROOTS_MEMORY_SIZE(pem_size) ((pem_size)*5 / 2)
#define SPARE_MEMORY_SIZE ((size_t)640 * 1024)

/* Of musl, for the thread that looks a name up. */
#define LOOK_UP_STACK_SIZE ((size_t)136 * 1024)

/* A request and most answers have less than 2 KiB. */
#define UPLOAD_SIZE 16384L
#define BODY_SIZE_BASE 2048u

/* libcurl itself limits the length of one header only. */
#define HEADERS_SIZE_MAX (64 * 1024)

#define CONNECTIONS_MAX 2L /* IMDS and a vault */

/* While TLS is negotiated, libcurl's BearSSL back end does not tell its event loop what it waits
 * for, and each flight of the handshake would take as long as the loop sleeps: look this often
 * instead. */
#define HANDSHAKE_LOOK_MS 5
#define LOOK_MS 1000

/* A connection that is used all the time would otherwise never notice that the name has moved. */
#define CONNECTION_LIFE_MAX_S 600L

#define RETRY_AFTER_MAX_MS (3600 * 1000u)

/* libcurl's allocation functions take no context, so this one is of the whole process. */
static struct secret_heap memory;
static unsigned open_count; /* of clients */

static void *memory_take(size_t size)
{
	return secret_heap_take(&memory, size);
}

static void memory_give_back(void *block)
{
	secret_heap_give_back(&memory, block);
}

static void *memory_resize(void *block, size_t size)
{
	return secret_heap_resize(&memory, block, size);
}

static char *memory_copy_text(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = memory_take(size);

	if (copy != NULL)
		memcpy(copy, text, size);
	return copy;
}

static void *memory_take_zeroed(size_t count, size_t size)
{
	size_t total;
	void *block;

	if (__builtin_mul_overflow(count, size, &total))
		return NULL;
	block = memory_take(total);
	if (block != NULL)
		memset(block, 0, total);
	return block;
}

size_t https_peak_memory(void)
{
	return memory.peak_size;
}

static size_t heap_size(const struct https_options *options)
{
	return SPARE_MEMORY_SIZE + (CLIENT_MEMORY_SIZE + ROOTS_MEMORY_SIZE(options->roots_size)) *
					   options->client_count;
}

size_t https_memory(const struct https_options *options)
{
	return heap_size(options) + LOOK_UP_STACK_SIZE * options->client_count;
}

/* --- texts --- */

static void copy_printable(char *target, size_t target_size, const char *text, size_t length)
{
	size_t copied = MINIMUM(length, target_size - 1);

	for (size_t i = 0; i < copied; i++)
		target[i] = text[i] >= 0x20 && text[i] <= 0x7e ? text[i] : '?';
	target[copied] = '\0';
}

static bool read_digits(int *value, const char *text, size_t count)
{
	*value = 0;
	for (size_t i = 0; i < count; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		*value = *value * 10 + (text[i] - '0');
	}
	return true;
}

/* Days from 1970-01-01 in the Gregorian calendar, by counting years from March on. */
static int64_t days_since_1970(int year, int month, int day)
{
	int64_t years = month > 2 ? year : year - 1;
	int64_t months = month > 2 ? month - 3 : month + 9;

	return years * 365 + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day -
	       1 - 719468;
}

bool https_parse_date(int64_t *seconds, const char *text)
{
	static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	static const char shape[] = "www, dd mmm yyyy hh:mm:ss GMT";
	int day, year, hour, minute, second;
	int month = 0;

	if (strlen(text) != strlen(shape))
		return false;
	for (size_t i = 3; i < strlen(shape); i++)
		if (strchr(", :GMT", shape[i]) != NULL && text[i] != shape[i])
			return false;
	while (month < 12 && strncmp(names + (size_t)month * 3, text + 8, 3) != 0)
		month++;
	if (month == 12 || !read_digits(&day, text + 5, 2) || !read_digits(&year, text + 12, 4) ||
	    !read_digits(&hour, text + 17, 2) || !read_digits(&minute, text + 20, 2) ||
	    !read_digits(&second, text + 23, 2))
		return false;
	if (year < 1970 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
		return false;
	*seconds =
		days_since_1970(year, month + 1, day) * 86400 + hour * 3600 + minute * 60 + second;
	return true;
}

bool https_parse_retry_after(uint64_t *wait_ms, const char *text, int64_t now_s)
{
	size_t digits = strspn(text, "0123456789");
	int64_t date_s;
	int seconds;

	if (digits > 0 && text[digits] == '\0') {
		*wait_ms = RETRY_AFTER_MAX_MS;
		if (digits <= 6 && read_digits(&seconds, text, digits))
			*wait_ms = MINIMUM((uint64_t)seconds * 1000, RETRY_AFTER_MAX_MS);
		return true;
	}
	if (!https_parse_date(&date_s, text))
		return false;
	*wait_ms = date_s <= now_s ? 0
				   : MINIMUM((uint64_t)(date_s - now_s) * 1000, RETRY_AFTER_MAX_MS);
	return true;
}

/* --- what libcurl calls --- */

struct exchange {
	struct https_client *client;
	struct https_answer *answer;
	size_t body_size;
	size_t headers_size;
	bool is_too_large;
	bool has_begun_tls; /* so there was a connection */
	enum status proxy_failure;
	uint64_t connect_deadline_ms;
	char target[HTTPS_HEADER_VALUE_SIZE]; /* HOST:PORT, for the proxy */
	char retry_after[HTTPS_HEADER_VALUE_SIZE];
	char error[CURL_ERROR_SIZE];
};

/* One byte of it is the NUL's. */
static bool make_room(struct https_client *client, size_t size)
{
	size_t capacity = MAXIMUM(
		size, MINIMUM(client->body_capacity * 2, client->options->body_size_max + 1));
	char *body;

	if (size <= client->body_capacity)
		return true;
	body = memory_resize(client->body, capacity);
	if (body == NULL)
		return false;
	memset(body + client->body_capacity, 0, capacity - client->body_capacity);
	client->body = body;
	client->body_capacity = capacity;
	return true;
}

static size_t take_body(char *bytes, size_t unit, size_t count, void *context)
{
	struct exchange *exchange = context;
	size_t size = unit * count;

	if (size > exchange->client->options->body_size_max - exchange->body_size) {
		exchange->is_too_large = true;
		return 0;
	}
	if (!make_room(exchange->client, exchange->body_size + size + 1))
		return 0;
	memcpy(exchange->client->body + exchange->body_size, bytes, size);
	exchange->body_size += size;
	return size;
}

static void keep_header(struct exchange *exchange, const char *line, size_t length)
{
	struct https_answer *answer = exchange->answer;
	char date[HTTPS_HEADER_VALUE_SIZE] = "";
	const struct {
		const char *name;
		char *value;
	} wanted[] = {
		{"x-ms-request-id", answer->request_id},
		{"x-ms-keyvault-network-info", answer->network_info},
		{"WWW-Authenticate", answer->authenticate},
		{"Retry-After", exchange->retry_after},
		{"Date", date},
	};
	const char *colon = memchr(line, ':', length);
	const char *value;
	size_t name_length;

	if (colon == NULL)
		return;
	name_length = (size_t)(colon - line);
	value = colon + 1;
	length -= name_length + 1;
	while (length > 0 && (*value == ' ' || *value == '\t')) {
		value++;
		length--;
	}
	while (length > 0 && strchr(" \t\r\n", value[length - 1]) != NULL)
		length--;
	for (size_t i = 0; i < ARRAY_COUNT(wanted); i++)
		if (strlen(wanted[i].name) == name_length &&
		    strncasecmp(wanted[i].name, line, name_length) == 0)
			copy_printable(wanted[i].value, HTTPS_HEADER_VALUE_SIZE, value, length);
	if (date[0] != '\0' && !https_parse_date(&answer->date_s, date))
		answer->date_s = 0;
}

static size_t take_header(char *bytes, size_t unit, size_t count, void *context)
{
	struct exchange *exchange = context;
	size_t size = unit * count;

	exchange->headers_size += size;
	if (exchange->headers_size > HEADERS_SIZE_MAX) {
		exchange->is_too_large = true;
		return 0;
	}
	keep_header(exchange, bytes, size);
	return size;
}

/* BearSSL would seed itself from the processor's RDRAND alone, or from a device file that the vault
 * agent may not open; the kernel's generator is mixed in before either. */
static CURLcode prepare_tls(CURL *handle, void *tls, void *context)
{
	br_ssl_client_context *client = tls;
	struct exchange *exchange = context;
	uint8_t seed[32];

	(void)handle;
	exchange->has_begun_tls = true;
	entropy_fill(seed, sizeof(seed));
	br_ssl_engine_inject_entropy(&client->eng, seed, sizeof(seed));
	secret_wipe_bytes(seed, sizeof(seed));
	return CURLE_OK;
}

/* With a proxy: the address is the proxy's, and libcurl is given what leads through it. Of several
 * addresses, what one has answered says more than that another is not there. */
static curl_socket_t open_tunnel(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct exchange *exchange = context;
	int http_status, fd = CURL_SOCKET_BAD;
	enum status status = proxy_tunnel_open(&fd, &http_status, &address->addr, address->addrlen,
					       exchange->target, exchange->connect_deadline_ms);

	(void)purpose;
	if (status != FAIL_PROXY_UNREACHABLE || exchange->proxy_failure == OK) {
		exchange->proxy_failure = status;
		exchange->answer->http_status = http_status;
	}
	return fd;
}

static int skip_connecting(void *context, curl_socket_t fd, curlsocktype purpose)
{
	(void)context;
	(void)fd;
	(void)purpose;
	return CURL_SOCKOPT_ALREADY_CONNECTED;
}

/* --- open and close --- */

#define SET(option, value) (curl_easy_setopt(handle, (option), (value)) == CURLE_OK)

static bool set_fixed_options(CURL *handle, const struct https_options *options)
{
	struct curl_blob roots = {
		.data = (void *)(uintptr_t)options->roots_pem,
		.len = options->roots_size,
		.flags = CURL_BLOB_NOCOPY,
	};

	return SET(CURLOPT_NOSIGNAL, 1L) && SET(CURLOPT_FOLLOWLOCATION, 0L) &&
	       SET(CURLOPT_USERAGENT, "byok") &&
	       SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
	       SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
	       SET(CURLOPT_SSL_VERIFYPEER, 1L) && SET(CURLOPT_SSL_VERIFYHOST, 2L) &&
	       SET(CURLOPT_SSL_SESSIONID_CACHE, 0L) && SET(CURLOPT_SSL_CTX_FUNCTION, prepare_tls) &&
	       SET(CURLOPT_CAINFO_BLOB, &roots) && SET(CURLOPT_MAXCONNECTS, 2L) &&
	       SET(CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_SIZE) &&
	       SET(CURLOPT_MAXLIFETIME_CONN, CONNECTION_LIFE_MAX_S) &&
	       SET(CURLOPT_TCP_KEEPALIVE, 1L) && SET(CURLOPT_HTTP09_ALLOWED, 0L) &&
	       SET(CURLOPT_WRITEFUNCTION, take_body) && SET(CURLOPT_HEADERFUNCTION, take_header);
}

bool https_address_is_valid(const char *text)
{
	const char *port = strrchr(text, ':');

	return port != NULL && port > text && port[1] != '\0' &&
	       strlen(text) < HTTPS_HEADER_VALUE_SIZE &&
	       port[1 + strspn(port + 1, "0123456789")] == '\0' &&
	       strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			    ".-:[]") == strlen(text);
}

static enum status set_connect_to(struct https_client *client, const struct https_options *options)
{
	const char *connect_to = options->proxy != NULL ? options->proxy : options->connect_to;
	char entry[HTTPS_HEADER_VALUE_SIZE + 2];

	if ((options->connect_to != NULL && !https_address_is_valid(options->connect_to)) ||
	    (options->proxy != NULL && !https_address_is_valid(options->proxy)))
		return FAIL_CONFIG;
	if (connect_to == NULL)
		return OK;
	/* The empty host and port in front stand for any. */
	snprintf(entry, sizeof(entry), "::%s", connect_to);
	client->connect_to = curl_slist_append(NULL, entry);
	return client->connect_to == NULL ? FAIL_OUT_OF_MEMORY : OK;
}

static enum status open_client(struct https_client *client, const struct https_options *options)
{
	client->options = options;
	client->multi = curl_multi_init();
	client->handle = curl_easy_init();
	if (client->multi == NULL || client->handle == NULL ||
	    !set_fixed_options(client->handle, options) ||
	    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_MAX) != CURLM_OK)
		return FAIL_OUT_OF_MEMORY;
	return set_connect_to(client, options);
}

static enum status start_libcurl(const struct https_options *options)
{
	TRY(secret_heap_open(&memory, heap_size(options)));
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, memory_take, memory_give_back, memory_resize,
				 memory_copy_text, memory_take_zeroed) == CURLE_OK)
		return OK;
	secret_heap_close(&memory);
	return FAIL_OUT_OF_MEMORY;
}

enum status https_open(struct https_client *client, const struct https_options *options)
{
	enum status status;

	*client = (struct https_client){0};
	if (open_count == 0)
		TRY(start_libcurl(options));
	open_count++;
	client->is_open = true;
	status = open_client(client, options);
	if (status != OK)
		https_close(client);
	return status;
}

void https_close(struct https_client *client)
{
	if (!client->is_open)
		return;
	curl_easy_cleanup(client->handle);
	(void)curl_multi_cleanup(client->multi);
	curl_slist_free_all(client->connect_to);
	memory_give_back(client->body);
	if (--open_count == 0) {
		curl_global_cleanup();
		secret_heap_close(&memory);
	}
	*client = (struct https_client){0};
}

/* --- one exchange --- */

static bool is_https(const char *url)
{
	return strncmp(url, "https://", 8) == 0;
}

/* In clear text only to this machine, or to its host by the address that leads nowhere else. */
static bool url_is_allowed(const char *url)
{
	static const char *const clear[] = {"http://169.254.169.254", "http://127.0.0.1"};

	for (size_t i = 0; i < ARRAY_COUNT(clear); i++) {
		size_t length = strlen(clear[i]);

		if (strncmp(url, clear[i], length) == 0 &&
		    (url[length] == '/' || url[length] == ':') && strchr(url, '@') == NULL)
			return true;
	}
	return is_https(url);
}

static bool add_header(struct curl_slist **headers, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*headers, line);

	if (longer == NULL)
		return false;
	*headers = longer;
	return true;
}

static bool add_bearer(struct curl_slist **headers, const char *bearer)
{
	static const char name[] = "Authorization: Bearer ";
	size_t size = sizeof(name) + strlen(bearer);
	char *line = memory_take(size);
	bool is_added;

	if (line == NULL)
		return false;
	snprintf(line, size, "%s%s", name, bearer);
	is_added = add_header(headers, line);
	memory_give_back(line);
	return is_added;
}

static bool make_headers(struct curl_slist **headers, const struct https_request *request)
{
	return add_header(headers, "Accept: application/json") &&
	       /* An empty value takes away libcurl's own: nobody here answers 100 Continue. */
	       add_header(headers, "Expect:") &&
	       (request->body == NULL ||
		add_header(headers, request->is_form
					    ? "Content-Type: application/x-www-form-urlencoded"
					    : "Content-Type: application/json")) &&
	       (!request->is_for_metadata || add_header(headers, "Metadata: true")) &&
	       (request->bearer == NULL || add_bearer(headers, request->bearer));
}

/* Before the first connection, because a kept one is through the proxy already. */
static bool set_proxy(CURL *handle, struct exchange *exchange, const struct https_request *request,
		      bool is_used)
{
	const char *connect_to = exchange->client->options->connect_to;
	const char *host = request->url + strlen("https://");

	if (is_used && connect_to != NULL && !request->is_for_other)
		strcpy(exchange->target, connect_to);
	else if (is_used)
		snprintf(exchange->target, sizeof(exchange->target), "%.*s:443",
			 (int)strcspn(host, "/"), host);
	return SET(CURLOPT_OPENSOCKETFUNCTION, is_used ? open_tunnel : NULL) &&
	       SET(CURLOPT_OPENSOCKETDATA, exchange) &&
	       SET(CURLOPT_SOCKOPTFUNCTION, is_used ? skip_connecting : NULL);
}

static bool set_request(CURL *handle, struct exchange *exchange,
			const struct https_request *request, struct curl_slist *headers)
{
	const struct https_client *client = exchange->client;
	bool is_secure = is_https(request->url);
	bool has_proxy = is_secure && client->options->proxy != NULL;
	bool is_led = is_secure && (has_proxy || !request->is_for_other);

	if (request->body == NULL) {
		if (!SET(CURLOPT_HTTPGET, 1L))
			return false;
	} else if (!SET(CURLOPT_POST, 1L) || !SET(CURLOPT_POSTFIELDS, request->body) ||
		   !SET(CURLOPT_POSTFIELDSIZE, (long)request->body_size)) {
		return false;
	}
	return set_proxy(handle, exchange, request, has_proxy) && SET(CURLOPT_URL, request->url) &&
	       SET(CURLOPT_PROTOCOLS_STR, is_secure ? "https" : "http") &&
	       SET(CURLOPT_CONNECT_TO, is_led ? client->connect_to : NULL) &&
	       SET(CURLOPT_HTTPHEADER, headers) &&
	       SET(CURLOPT_CONNECTTIMEOUT_MS, (long)request->connect_timeout_ms) &&
	       SET(CURLOPT_TIMEOUT_MS, (long)request->timeout_ms) &&
	       SET(CURLOPT_WRITEDATA, exchange) && SET(CURLOPT_HEADERDATA, exchange) &&
	       SET(CURLOPT_SSL_CTX_DATA, exchange) && SET(CURLOPT_ERRORBUFFER, exchange->error);
}

/* What the handle must not keep: it outlives these. */
static void forget_request(CURL *handle)
{
	CHECK(SET(CURLOPT_HTTPGET, 1L) && SET(CURLOPT_POSTFIELDS, NULL) &&
	      SET(CURLOPT_HTTPHEADER, NULL) && SET(CURLOPT_CONNECT_TO, NULL) &&
	      SET(CURLOPT_WRITEDATA, NULL) && SET(CURLOPT_HEADERDATA, NULL) &&
	      SET(CURLOPT_SSL_CTX_DATA, NULL) && SET(CURLOPT_ERRORBUFFER, NULL) &&
	      SET(CURLOPT_OPENSOCKETDATA, NULL));
}

/* libcurl tells these apart only in words; tests against real certificates hold it to them. */
static enum status status_of_certificate(const char *error)
{
	if (strstr(error, "expected server name was not found") != NULL)
		return FAIL_TLS_NAME;
	if (strstr(error, "expired or not yet valid") != NULL)
		return FAIL_TLS_DATE;
	return FAIL_TLS_AUTHORITY;
}

static bool is_in_handshake(CURL *handle, const struct exchange *exchange)
{
	curl_off_t handshake_us = 0;

	return exchange->has_begun_tls &&
	       curl_easy_getinfo(handle, CURLINFO_APPCONNECT_TIME_T, &handshake_us) == CURLE_OK &&
	       handshake_us == 0;
}

static enum status status_of_timeout(const struct exchange *exchange)
{
	if (strstr(exchange->error, "Resolving timed out") != NULL)
		return FAIL_VAULT_NAME;
	/* Nobody at that address, rather than somebody slow. */
	if (strstr(exchange->error, "Connection timed out") != NULL && !exchange->has_begun_tls)
		return FAIL_VAULT_UNREACHABLE;
	return FAIL_VAULT_TIMEOUT;
}

static enum status status_of_curl(CURL *handle, CURLcode code, const struct exchange *exchange)
{
	if (exchange->is_too_large)
		return FAIL_ANSWER_TOO_LARGE;
	switch ((int)code) {
	case CURLE_OK: return OK;
	case CURLE_COULDNT_RESOLVE_HOST: return FAIL_VAULT_NAME;
	case CURLE_COULDNT_CONNECT: return FAIL_VAULT_UNREACHABLE;
	case CURLE_OPERATION_TIMEDOUT: return status_of_timeout(exchange);
	case CURLE_PEER_FAILED_VERIFICATION: return status_of_certificate(exchange->error);
	case CURLE_SSL_CONNECT_ERROR: return FAIL_TLS;
	case CURLE_SSL_CACERT_BADFILE: return FAIL_CONFIG;
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_READ_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		/* An end within the handshake is TLS refused, not an answer cut. */
		return is_in_handshake(handle, exchange) ? FAIL_TLS : FAIL_ANSWER_CUT;
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_HTTP2: return FAIL_ANSWER_SYNTAX;
	case CURLE_OUT_OF_MEMORY: return FAIL_OUT_OF_MEMORY;
	default: return FAIL_SYSTEM;
	}
}

/* The name and the address that libcurl knows are the proxy's. */
static enum status status_with_proxy(enum status status, struct exchange *exchange)
{
	if (exchange->proxy_failure != OK)
		status = exchange->proxy_failure;
	else if (status == FAIL_VAULT_NAME || status == FAIL_VAULT_UNREACHABLE)
		status = FAIL_PROXY_UNREACHABLE;
	else
		return status;
	snprintf(exchange->error, sizeof(exchange->error), "by the proxy %s",
		 exchange->client->options->proxy);
	return status;
}

static void finish_answer(CURL *handle, struct exchange *exchange)
{
	struct https_answer *answer = exchange->answer;
	long http_status = 0;
	int64_t now_s = answer->date_s != 0 ? answer->date_s : clock_wall_s();

	if (exchange->proxy_failure == OK &&
	    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &http_status) == CURLE_OK)
		answer->http_status = (int)http_status;
	answer->has_retry_after =
		https_parse_retry_after(&answer->retry_after_ms, exchange->retry_after, now_s);
}

/* As curl_easy_perform, but for what is said at HANDSHAKE_LOOK_MS. */
static CURLcode perform(const struct https_client *client, const struct exchange *exchange)
{
	CURLcode code = CURLE_OUT_OF_MEMORY;
	CURLMsg *message;
	int count;

	if (curl_multi_add_handle(client->multi, client->handle) != CURLM_OK)
		return code;
	while (curl_multi_perform(client->multi, &count) == CURLM_OK && count > 0) {
		int look_ms =
			is_in_handshake(client->handle, exchange) ? HANDSHAKE_LOOK_MS : LOOK_MS;

		if (curl_multi_poll(client->multi, NULL, 0, look_ms, NULL) != CURLM_OK)
			break;
	}
	message = curl_multi_info_read(client->multi, &count);
	if (message != NULL && message->msg == CURLMSG_DONE)
		code = message->data.result;
	CHECK(curl_multi_remove_handle(client->multi, client->handle) == CURLM_OK);
	return code;
}

enum status https_exchange(struct https_client *client, struct https_answer *answer,
			   const struct https_request *request)
{
	CURL *handle = client->handle;
	uint64_t start_ms = clock_now_ms();
	struct exchange exchange = {
		.client = client,
		.answer = answer,
		.connect_deadline_ms = start_ms + request->connect_timeout_ms,
	};
	struct curl_slist *headers = NULL;
	bool is_secure = is_https(request->url);
	CURLcode code = CURLE_OUT_OF_MEMORY;
	enum status status;

	CHECK(url_is_allowed(request->url) && (request->bearer == NULL || is_secure));
	CHECK(request->timeout_ms > 0 && request->timeout_ms <= INT32_MAX &&
	      request->connect_timeout_ms > 0 && request->connect_timeout_ms <= INT32_MAX);
	https_wipe_body(client);
	*answer = (struct https_answer){0};
	if (make_room(client, BODY_SIZE_BASE) && make_headers(&headers, request) &&
	    set_request(handle, &exchange, request, headers))
		code = perform(client, &exchange);
	finish_answer(handle, &exchange);
	status = status_of_curl(handle, code, &exchange);
	if (status == OK && answer->http_status >= 300 && answer->http_status < 400)
		status = FAIL_VAULT_REDIRECT;
	if (is_secure && client->options->proxy != NULL)
		status = status_with_proxy(status, &exchange);
	if (status == OK) {
		answer->body_size = exchange.body_size;
	} else {
		const char *cause =
			exchange.error[0] != '\0' ? exchange.error : curl_easy_strerror(code);

		https_wipe_body(client);
		if (code != CURLE_OK)
			copy_printable(answer->cause, sizeof(answer->cause), cause, strlen(cause));
	}
	answer->body = client->body;
	forget_request(handle);
	curl_slist_free_all(headers);
	answer->duration_ms = clock_now_ms() - start_ms;
	return status;
}

/* One that is large is given back: who sends such answers must not take all clients' memory. */
void https_wipe_body(struct https_client *client)
{
	if (client->body_capacity <= BODY_SIZE_BASE) {
		if (client->body != NULL)
			secret_wipe_bytes(client->body, client->body_capacity);
		return;
	}
	memory_give_back(client->body);
	client->body = NULL;
	client->body_capacity = 0;
}

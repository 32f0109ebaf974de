#include "io/proxy_tunnel.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "platform/clock.h"

#define REQUEST_SIZE 768
#define ANSWER_SIZE_MAX 8192

struct tunnel {
	int fd;
	uint64_t deadline_ms;
	size_t size; /* of what has come of the answer */
	char answer[ANSWER_SIZE_MAX + 1];
};

static enum status wait_for(const struct tunnel *tunnel, short events, enum status too_late)
{
	struct pollfd wanted = {.fd = tunnel->fd, .events = events};

	for (;;) {
		const uint64_t left_ms = clock_left_ms(tunnel->deadline_ms);
		const int ready = poll(&wanted, 1, (int)MINIMUM(left_ms, 60000));

		if (ready > 0)
			return OK;
		if (ready < 0 && errno != EINTR)
			return FAIL_SYSTEM;
		if (left_ms == 0)
			return too_late;
	}
}

static enum status connect_to(const struct tunnel *tunnel, const struct sockaddr *address,
			      socklen_t address_size)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (connect(tunnel->fd, address, address_size) == 0)
		return OK;
	if (errno != EINPROGRESS)
		return FAIL_PROXY_UNREACHABLE;
	TRY(wait_for(tunnel, POLLOUT, FAIL_PROXY_UNREACHABLE));
	return getsockopt(tunnel->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0
		       ? OK
		       : FAIL_PROXY_UNREACHABLE;
}

/* It is small, and nothing was sent before it. */
static enum status ask(const struct tunnel *tunnel, const char *target)
{
	char request[REQUEST_SIZE];
	const int length = snprintf(request, sizeof(request),
				    "CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: byok\r\n\r\n",
				    target, target);

	CHECK(length > 0 && (size_t)length < sizeof(request));
	return send(tunnel->fd, request, (size_t)length, MSG_NOSIGNAL) == length
		       ? OK
		       : FAIL_PROXY_ANSWER;
}

static enum status read_more(struct tunnel *tunnel)
{
	ssize_t got;

	TRY(wait_for(tunnel, POLLIN, FAIL_PROXY_TIMEOUT));
	got = recv(tunnel->fd, tunnel->answer + tunnel->size, ANSWER_SIZE_MAX - tunnel->size, 0);
	if (got <= 0) /* also when there is no room left */
		return FAIL_PROXY_ANSWER;
	tunnel->size += (size_t)got;
	tunnel->answer[tunnel->size] = '\0';
	return OK;
}

/* "HTTP/1.1 200 Connection established" */
static enum status read_status(int *http_status, const char *answer)
{
	const char *digits = answer + 9;

	if (strncmp(answer, "HTTP/1.", 7) != 0 || strspn(answer + 7, "01") != 1 ||
	    answer[8] != ' ' || strspn(digits, "0123456789") != 3)
		return FAIL_PROXY_ANSWER;
	*http_status = (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + digits[2] - '0';
	if (*http_status >= 200 && *http_status <= 299)
		return OK;
	if (*http_status == 407)
		return FAIL_PROXY_PASSWORD;
	return *http_status >= 500 ? FAIL_PROXY_ERROR : FAIL_PROXY_REFUSED;
}

static enum status hear(struct tunnel *tunnel, int *http_status)
{
	const char *end;

	while (strchr(tunnel->answer, '\n') == NULL)
		TRY(read_more(tunnel));
	TRY(read_status(http_status, tunnel->answer));
	while ((end = strstr(tunnel->answer, "\r\n\r\n")) == NULL)
		TRY(read_more(tunnel));
	/* In TLS the client speaks first. */
	return end + 4 == tunnel->answer + tunnel->size ? OK : FAIL_PROXY_ANSWER;
}

enum status proxy_tunnel_open(int *fd, int *http_status, const struct sockaddr *address,
			      socklen_t address_size, const char *target, uint64_t deadline_ms)
{
	struct tunnel tunnel = {.deadline_ms = deadline_ms};
	enum status status;

	*http_status = 0;
	tunnel.fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (tunnel.fd < 0)
		return errno == EAFNOSUPPORT ? FAIL_PROXY_UNREACHABLE : FAIL_SYSTEM;
	status = connect_to(&tunnel, address, address_size);
	if (status == OK)
		status = ask(&tunnel, target);
	if (status == OK)
		status = hear(&tunnel, http_status);
	if (status == OK)
		*fd = tunnel.fd;
	else
		close(tunnel.fd);
	return status;
}

/* Threads whose stacks are as large as their work needs: all memory of byok is locked. */
#ifndef PLATFORM_THREAD_H
#define PLATFORM_THREAD_H

#include <pthread.h>

#include "platform/base.h"

/* 0, or an errno, and then there is no thread. Signals are masked as in the caller. */
MUST_CHECK int thread_start(pthread_t *thread, size_t stack_size, void *(*run)(void *context),
			    void *context);

#endif

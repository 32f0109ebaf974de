#include "platform/thread.h"

int thread_start(pthread_t *thread, size_t stack_size, void *(*run)(void *context), void *context)
{
	pthread_attr_t attributes;
	int error = pthread_attr_init(&attributes);

	if (error != 0)
		return error;
	error = pthread_attr_setstacksize(&attributes, stack_size);
	if (error == 0)
		error = pthread_create(thread, &attributes, run, context);
	pthread_attr_destroy(&attributes);
	return error;
}

/* Linked into the sanitized byok: its roles run with an empty environment, so options must come
 * from within. Leaks cannot be looked for in a process that forbids tracing, as every role does;
 * the unit tests look for them. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:detect_stack_use_after_return=1:abort_on_error=0";
}
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
	return "print_stacktrace=1";
}
/* The first race ends the process, for a test to see it; its report is in the log. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "halt_on_error=1:abort_on_error=0:exitcode=66";
}

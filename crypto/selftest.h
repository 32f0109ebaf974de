/* Known-answer tests of the ciphers on this very machine: a broken CPU, build or virtual machine
 * must be noticed before it writes data that nothing can read again. */
#ifndef CRYPTO_SELFTEST_H
#define CRYPTO_SELFTEST_H

#include "platform/status.h"

/* At the start of every role: the cipher implementation that would be chosen here, both ways, the
 * hashes, PBKDF2 and base64. Takes less than a millisecond. FAIL_SELFTEST if any of them gives
 * another answer than it must. */
MUST_CHECK enum status selftest_run(void);

/* Called once per test; `implementation` tells whose code ran: "aesni", "bearssl", "byok" ... */
typedef void selftest_report(void *context, const char *name, const char *implementation,
			     bool passed);

/* All tests, with every cipher implementation that this CPU has; goes on after a failure.
 * FAIL_SELFTEST if one failed. */
MUST_CHECK enum status selftest_run_all(selftest_report *report, void *context);

#endif

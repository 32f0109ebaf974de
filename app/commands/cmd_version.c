#include <stdio.h>

#include "app/commands/commands.h"
#include "app/features.h"
#include "app/json_output.h"
#include "crypto/aes_xts.h"
#include "generated/version.h"
#include "platform/cpu.h"

static void print_text(const struct cpu_features *cpu)
{
	printf("byok %s (%s)\n", BYOK_VERSION, BYOK_REVISION);
	printf("cipher: aes-xts-plain64, %s on %s\n",
	       aes_xts_implementation_name(aes_xts_implementation_best()),
	       cpu->model[0] != '\0' ? cpu->model : "an unnamed CPU");
	for (enum feature feature = 0; feature < FEATURES; feature++)
		printf("%s=%c\n", feature_name(feature), feature_is_on(feature) ? 'y' : 'n');
}

static enum status print_json(const struct cpu_features *cpu)
{
	struct json_writer *writer = json_output_begin();

	json_begin_object(writer, NULL);
	json_write_string(writer, "version", BYOK_VERSION);
	json_write_string(writer, "revision", BYOK_REVISION);
	json_write_string(writer, "cpu", cpu->model);
	json_write_string(writer, "cipher_implementation",
			  aes_xts_implementation_name(aes_xts_implementation_best()));
	json_begin_object(writer, "features");
	for (enum feature feature = 0; feature < FEATURES; feature++)
		json_write_bool(writer, feature_name(feature), feature_is_on(feature));
	json_end_object(writer);
	json_end_object(writer);
	puts(json_output_end());
	return OK;
}

enum status cmd_version(struct arguments *arguments)
{
	struct cpu_features cpu;

	cpu_detect(&cpu);
	if (arguments->values[OPTION_JSON] != NULL)
		return print_json(&cpu);
	print_text(&cpu);
	return OK;
}

# byok's build. `make help` lists the targets.
#
# Everything made is under build/. What can be set on the command line:
#   CC_NAME=gcc|clang     the compiler
#   DEFCONFIG=NAME        platform/configs/NAME_defconfig instead of .config
#   CONFIG_SOURCE=FILE    any configuration file instead of .config
#   FLAVOUR=product|asan|tsan  the static musl binary, or a dynamic glibc one under ASan and UBSan,
#                         or under ThreadSanitizer
#   O=FOLDER              where the results go; folders never share objects
#   V=1                   show the commands

VERSION := 0.1.0

BUILD := build
O := $(BUILD)
FLAVOUR := product
CC_NAME := gcc
JOBS := $(shell nproc)
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(JOBS) --no-builtin-rules
endif
Q := $(if $(V),,@)
SAY := @$(if $(or $(V),$(findstring s,$(firstword -$(MAKEFLAGS)))),:,echo)
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all asan bench-crypto constant-time fleet fleet-processes unit unit-programs vm-programs \
	test tidy size kconfig-costs run run-more power-cuts kills bench-disk bench-volume \
	bench-many-disks menuconfig savedefconfig clean distclean help
all: $(O)/byok
	@:

# --- what this machine needs --------------------------------------------------------------------

PACKAGES := $(BUILD)/packages
$(PACKAGES)/%: platform/deps/packages.sh
	@platform/deps/packages.sh $*
	@mkdir -p $(@D) && touch $@

FLAVOUR_SET := $(if $(filter asan tsan,$(FLAVOUR)),host,musl)
DEPS := $(BUILD)/deps/$(FLAVOUR_SET)
$(BUILD)/deps/%/versions: platform/deps/build.sh | $(PACKAGES)/build
	@BYOK_BUILD=$(abspath $(BUILD)) JOBS=$(JOBS) platform/deps/build.sh $*

# --- configuration ------------------------------------------------------------------------------

CONFIG_SOURCE := $(if $(DEFCONFIG),platform/configs/$(DEFCONFIG)_defconfig,$(or \
	$(wildcard .config),platform/configs/broker_defconfig))
GENERATED := $(O)/include/generated

UNCONFIGURED := menuconfig savedefconfig %_defconfig clean distclean help test tidy size \
	kconfig-costs constant-time run run-more power-cuts kills asan bench-disk bench-volume \
	bench-many-disks fleet fleet-processes
ifneq ($(filter-out $(UNCONFIGURED),$(or $(MAKECMDGOALS),all)),)
# A removed .config is older than nothing: only its name shows that the source is another one now.
ifneq ($(file <$(O)/config-source),$(CONFIG_SOURCE))
$(shell mkdir -p $(O) && rm -f $(O)/.config)
$(file >$(O)/config-source,$(CONFIG_SOURCE))
endif
include $(O)/.config

REVISION := $(or $(shell git describe --always --dirty --abbrev=12 --match= 2>/dev/null),none)
define VERSION_H
#define BYOK_VERSION "$(VERSION)"
#define BYOK_REVISION "$(REVISION)"
endef
ifneq ($(file <$(GENERATED)/version.h),$(VERSION_H))
$(shell mkdir -p $(GENERATED))
$(file >$(GENERATED)/version.h,$(VERSION_H))
endif
endif

# Overwriting, because build/ may be on another file system than the sources.
KCONFIG = KCONFIG_OVERWRITECONFIG=1 KCONFIG_CONFIG=$(1) kconfig-conf
$(O)/.config: $(CONFIG_SOURCE) Kconfig | $(PACKAGES)/build
	@mkdir -p $(@D)
	@$(call KCONFIG,$@) --defconfig=$< Kconfig >$@.log || { cat $@.log >&2; exit 1; }
	@touch $@

$(GENERATED)/config.h: $(O)/.config platform/configs/header.sh
	@mkdir -p $(@D)
	@platform/configs/header.sh $< >$@.new
	@if cmp -s $@.new $@; then rm $@.new; touch $@; else mv $@.new $@; fi

$(GENERATED)/ca_bundle.h: $(O)/.config platform/deps/ca-bundle.sh platform/deps/ca-roots.list
	@mkdir -p $(@D)
	@platform/deps/ca-bundle.sh $(or $(CONFIG_CA_BUNDLE),n) >$@.new
	@if cmp -s $@.new $@; then rm $@.new; touch $@; else mv $@.new $@; fi

# The page of reports as a string, without indentation and comments.
$(GENERATED)/bench_report.h: app/bench/bench_report.html Makefile
	@mkdir -p $(@D)
	@sed 's/^\t*//; /^$$/d; /^\/\//d; s/[\\"?]/\\&/g; s/.*/"&\\n"/' $< >$@

menuconfig: | $(PACKAGES)/build
	@KCONFIG_CONFIG=.config kconfig-mconf Kconfig

%_defconfig: | $(PACKAGES)/build
	@test -e platform/configs/$@ || { echo "there is no platform/configs/$@" >&2; exit 1; }
	@$(call KCONFIG,.config) --defconfig=platform/configs/$@ Kconfig >/dev/null
	@echo "configured as $@ (in .config)"

savedefconfig: | $(PACKAGES)/build
	@$(call KCONFIG,$(or $(wildcard .config),$(O)/.config)) --savedefconfig=defconfig \
		Kconfig >/dev/null
	@echo "wrote defconfig"

# --- which files a feature brings ---------------------------------------------------------------

FILES_VAULT := io/https.c io/proxy_tunnel.c io/tls_profile.c platform/secret_heap.c \
	app/vault/identity.c app/vault/vault_agent.c app/vault/vault_attempt.c \
	app/vault/vault_role.c
FILES_WORKLOAD_IDENTITY := app/vault/workload_identity.c
FILES_ARGON2ID := crypto/argon2id.c
# io/ublk_process.c and io/nbd_*.c serve two data paths each: where neither is on, nothing calls
# them, and the linker leaves them out.
FILES_UBLK := $(filter-out io/ublk_process.c,$(wildcard io/ublk_*.c)) app/worker/data_path_ublk.c
FILES_DM_CRYPT := io/dm_crypt.c io/device_mapper.c io/kernel_key.c app/worker/data_path_dm_crypt.c
FILES_NBD_KERNEL := io/nbd_kernel.c app/worker/data_path_nbd_kernel.c
FILES_NBD_SOCKET := app/worker/data_path_nbd.c
FILES_AES_NI := crypto/aes_xts_aesni.c
FILES_VAES := crypto/aes_xts_vaes%.c
FILES_PROVISION := app/supervisor/provision.c app/volume/disk_blank.c app/commands/cmd_provision.c
FILES_METRICS := app/supervisor/metrics.c app/supervisor/supervisor_metrics.c
FILES_BENCH := app/bench/bench_%.c app/commands/cmd_bench.c
FEATURES := VAULT WORKLOAD_IDENTITY ARGON2ID UBLK DM_CRYPT NBD_KERNEL NBD_SOCKET AES_NI VAES \
	PROVISION METRICS BENCH

FILES_OFF := $(foreach feature,$(FEATURES),$(if $(CONFIG_$(feature)),,$(FILES_$(feature))))
FILES_OFF += $(if $(filter asan tsan,$(FLAVOUR)),platform/relocate.c)
SOURCES := $(filter-out $(FILES_OFF),\
	$(wildcard platform/*.c crypto/*.c io/*.c app/*.c app/*/*.c))

LIBRARIES := $(if $(CONFIG_VAULT),-lcurl) -lbearssl -luring $(if $(CONFIG_ARGON2ID),-largon2)

# --- how it is compiled -------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wconversion -Wswitch-enum -Wvla -Wundef -Werror
COMMON := -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -g -fno-omit-frame-pointer -fno-strict-aliasing \
	-ffile-prefix-map=$(CURDIR)=. -I. -I$(O)/include
CC := $(if $(filter clang,$(CC_NAME)),clang-14,gcc)
OBJECTS := $(O)/obj/$(CC_NAME)

ifeq ($(FLAVOUR),product)
# What runs once per command or per minute is made small; speed is for crypto/ and io/.
OPTIMISE := -O2
$(OBJECTS)/app/%.o: OPTIMISE := -Oz
$(OBJECTS)/platform/%.o: OPTIMISE := -Oz
# Of the others, what stands in no request's way.
SMALL := crypto/luks2_%.o crypto/antiforensic.o crypto/selftest.o crypto/recovery_key.o \
	crypto/base64.o io/https.o io/proxy_tunnel.o io/buffer_pool.o \
	io/nbd_kernel.o io/nbd_socket.o io/dm_crypt.o io/ublk_control.o io/ublk_control_process.o \
	io/ublk_device.o io/ublk_process.o
$(SMALL:%=$(OBJECTS)/%): OPTIMISE := -Oz
# musl-gcc's specs know neither clang nor static-pie, so musl's folders are spelt out for both.
MUSL := x86_64-linux-musl
COMPILER_HEADERS := $(if $(filter clang,$(CC_NAME)),$(shell \
	clang-14 -print-resource-dir 2>/dev/null)/include,$(shell gcc -print-file-name=include))
# C never unwinds, perf follows frame pointers, and gdb reads byok.debug.
NO_UNWIND := -fno-asynchronous-unwind-tables -fno-unwind-tables
CFLAGS = $(COMMON) $(OPTIMISE) -fPIE -ffunction-sections -fdata-sections -fstack-protector-strong \
	-fstack-clash-protection $(NO_UNWIND) -nostdinc -isystem /usr/include/$(MUSL) \
	-isystem $(COMPILER_HEADERS) -isystem $(DEPS)/include
LINK = $(CC) -static-pie -nostdlib -nostartfiles -L/usr/lib/$(MUSL) -L$(DEPS)/lib \
	-Wl,--gc-sections,--no-eh-frame-hdr,--build-id=sha1,-T,platform/discard.ld \
	-Wl,-z,relro,-z,now,-z,noexecstack,-O1,--fatal-warnings \
	/usr/lib/$(MUSL)/rcrt1.o /usr/lib/$(MUSL)/crti.o $(shell gcc -print-file-name=crtbeginS.o)
# platform/relocate.c tells why; tests do without.
PACKED := -Wl,-e,relocate_start,-z,pack-relative-relocs
LINK_END = -lc $(shell gcc -print-libgcc-file-name) $(shell gcc -print-file-name=libgcc_eh.a) -lc \
	$(shell gcc -print-file-name=crtendS.o) /usr/lib/$(MUSL)/crtn.o
else
SANITIZE := $(if $(filter tsan,$(FLAVOUR)),-fsanitize=thread,\
	-fsanitize=address,undefined -fno-sanitize-recover=all)
CFLAGS = $(COMMON) -O1 $(SANITIZE) -isystem $(DEPS)/include
LINK = $(CC) $(SANITIZE) -L$(DEPS)/lib
LINK_END = -lpthread
endif

PREPARED := $(GENERATED)/config.h $(GENERATED)/ca_bundle.h $(DEPS)/versions
$(OBJECTS)/%.o: %.c Makefile | $(PREPARED)
	$(SAY) "  CC    $<"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

PROGRAM := $(SOURCES:%.c=$(OBJECTS)/%.o)
-include $(PROGRAM:.o=.d)
$(OBJECTS)/app/bench/bench_report.o: $(GENERATED)/bench_report.h

# Files that went away leave no trace in timestamps, so the list of objects is a file of its own.
ifneq ($(file <$(OBJECTS)/list),$(PROGRAM))
$(shell mkdir -p $(OBJECTS))
$(file >$(OBJECTS)/list,$(PROGRAM))
endif

ifneq ($(FLAVOUR),product)
$(OBJECTS)/byok: $(OBJECTS)/tests/sanitizer_options.o
PROGRAM_EXTRA := $(OBJECTS)/tests/sanitizer_options.o
endif
$(OBJECTS)/byok: $(PROGRAM) $(OBJECTS)/list $(DEPS)/versions
	$(SAY) "  LINK  $@"
	$(Q)$(LINK) $(PACKED) -o $@ $(PROGRAM) $(PROGRAM_EXTRA) $(LIBRARIES) $(LINK_END)

# The symbols stand beside the binary, where gdb and perf look for them.
ifeq ($(FLAVOUR),product)
$(O)/byok: $(OBJECTS)/byok
	@cd $(O) && objcopy --only-keep-debug $(abspath $<) byok.debug && \
		objcopy --strip-all --add-gnu-debuglink=byok.debug $(abspath $<) byok.new && \
		mv byok.new byok
	$(SAY) "  BYOK  $@ ($$(($$(stat -c %s $@) / 1024)) KiB, $(CC_NAME)," \
		"$(notdir $(CONFIG_SOURCE)))"
else
$(O)/byok: $(OBJECTS)/byok
	@cp $< $@.new && mv $@.new $@
endif

# --- tests --------------------------------------------------------------------------------------

asan:
	@$(MAKE) --no-print-directory FLAVOUR=asan DEFCONFIG=full O=$(BUILD)/asan-$(CC_NAME) all
	@ln -sf asan-$(CC_NAME)/byok $(BUILD)/byok-asan

# Our objects come as an archive: what a test defines itself takes the place of ours.
$(OBJECTS)/libbyok.a: $(filter-out %/app/main.o,$(PROGRAM)) $(OBJECTS)/list
	@rm -f $@ && ar rcs $@ $(filter %.o,$^)

SUPPORT := $(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c))
SUPPORT := $(SUPPORT:%.c=$(OBJECTS)/%.o)
UNIT_OBJECTS := $(patsubst %.c,$(OBJECTS)/%.o,$(wildcard tests/unit/test_*.c))
UNIT_PROGRAMS := $(patsubst $(OBJECTS)/tests/unit/%.o,$(O)/unit/%,$(UNIT_OBJECTS))
-include $(UNIT_OBJECTS:.o=.d) $(SUPPORT:.o=.d)
.SECONDARY: $(UNIT_OBJECTS) $(SUPPORT)

$(OBJECTS)/libsupport.a: $(SUPPORT)
	@rm -f $@ && ar rcs $@ $^

$(O)/unit/%: $(OBJECTS)/tests/unit/%.o $(OBJECTS)/libsupport.a $(OBJECTS)/libbyok.a
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(LIBRARIES) -lcrypto $(LINK_END)

unit-programs: $(UNIT_PROGRAMS)

# For the virtual machine: static, without any of byok.
$(O)/vm-programs/%: $(OBJECTS)/tests/vm/%.o
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $< $(LINK_END)
-include $(OBJECTS)/tests/vm/recorder.d $(OBJECTS)/tests/vm/load.d

vm-programs: $(O)/vm-programs/recorder $(O)/vm-programs/load
	@:

FLEET := $(patsubst %.c,$(OBJECTS)/%.o,$(wildcard tests/fleet/*.c))
-include $(FLEET:.o=.d)
$(O)/fleet: $(FLEET) $(OBJECTS)/libbyok.a
	$(Q)$(LINK) -o $@ $^ $(LIBRARIES) $(LINK_END)

# Thousands of brokers before one vault; `make test` has a short form of it.
fleet: | $(PACKAGES)/build $(PACKAGES)/test
	@$(MAKE) --no-print-directory -s DEFCONFIG=full O=$(BUILD)/variants/full-gcc \
		$(BUILD)/variants/full-gcc/fleet
	@tests/fleet/run $(BUILD)/variants/full-gcc/fleet $(BUILD)

# COUNT real ones before the vault double, with its throttling on.
fleet-processes: | $(PACKAGES)/build $(PACKAGES)/test
	@$(MAKE) --no-print-directory -s DEFCONFIG=full O=$(BUILD)/variants/full-gcc all
	@FLEET_PROCESSES=$(or $(COUNT),50) BYOK_ASAN=$(abspath $(BUILD)/variants/full-gcc/byok) \
		tests/program/run test_fleet

# Only the unit tests, quickly: gcc alone. `make test` is the whole.
unit: | $(PACKAGES)/test
	@tests/run unit-gcc

test: | $(PACKAGES)/build $(PACKAGES)/test $(PACKAGES)/vm
	@tests/run

tidy:
	@tests/tidy

size: | $(PACKAGES)/build
	@tests/builds gcc

# Beside OpenSSL and libgcrypt, interleaved; for looking at, not a test.
bench-crypto: | $(PACKAGES)/build $(PACKAGES)/bench
	@$(MAKE) --no-print-directory $(BUILD)/deps/host/versions
	@tests/bench/run

# At every level of both compilers; `make test` has the level of the product.
constant-time: | $(PACKAGES)/build $(PACKAGES)/test
	@$(MAKE) --no-print-directory $(BUILD)/deps/host/versions
	@tests/constant_time/run

kconfig-costs: | $(PACKAGES)/build
	@tests/kconfig-costs $(if $(WRITE),--write)

run: | $(PACKAGES)/build $(PACKAGES)/vm
	@$(MAKE) --no-print-directory all
	@tests/vm/run

# COUNT of them; some are part of every `make run`.
power-cuts: | $(PACKAGES)/build $(PACKAGES)/vm
	@$(MAKE) --no-print-directory all
	@tests/vm/run --power-cuts $(or $(COUNT),60)

# COUNT of them at least, on every data path; some are part of every `make run`.
kills: | $(PACKAGES)/build $(PACKAGES)/vm
	@$(MAKE) --no-print-directory all
	@tests/vm/run --kills $(or $(COUNT),120)

run-more: | $(PACKAGES)/build $(PACKAGES)/vm
	@$(MAKE) --no-print-directory all
	@tests/vm/run --more

# WORDS="--rounds 5 ..." go to the program.
bench-disk: | $(PACKAGES)/build $(PACKAGES)/test
	@$(MAKE) --no-print-directory -s DEFCONFIG=full O=$(BUILD)/variants/full-gcc all
	@tests/bench/disk --byok $(BUILD)/variants/full-gcc/byok --folder $(BUILD) $(WORDS)

# In the VM: one disk through ublk and through dm-crypt, in turns, COUNT times.
bench-volume: | $(PACKAGES)/build $(PACKAGES)/vm
	@$(MAKE) --no-print-directory -s DEFCONFIG=full O=$(BUILD)/variants/full-gcc all
	@tests/vm/run --bench-volume $(or $(COUNT),3)

bench-many-disks: | $(PACKAGES)/build $(PACKAGES)/test
	@$(MAKE) --no-print-directory -s DEFCONFIG=full O=$(BUILD)/variants/full-gcc all
	@tests/bench/many_disks --byok $(BUILD)/variants/full-gcc/byok $(WORDS)

KEPT := $(addprefix $(BUILD)/,deps apt packages debs)
clean:
	@rm -rf $(filter-out $(KEPT),$(wildcard $(BUILD)/* $(BUILD)/.config*))

distclean:
	@rm -rf $(BUILD) .config .config.old defconfig

NAMES := $(patsubst platform/configs/%_defconfig,%,$(wildcard platform/configs/*_defconfig))
help:
	@echo "make                  build/byok, static, as .config says (else broker_defconfig)"
	@echo "make menuconfig       choose features"
	@echo "make NAME_defconfig   take a ready choice: $(NAMES)"
	@echo "make savedefconfig    write what differs from the defaults to defconfig"
	@echo "make run              boot a VM in which byok does its main job"
	@echo "make run-more         VMs that it leaves out: ublk traps, 16 disks, systemd"
	@echo "make power-cuts       only its power cuts, COUNT=60 of them"
	@echo "make kills            only its kills and upgrades under load, COUNT=120 kills"
	@echo "make test             every test; closes with one line that adds them up"
	@echo "make unit | tidy      only the unit tests (gcc) | only the source checks"
	@echo "make constant-time    no secret decides what is done, with either compiler"
	@echo "make asan             build/byok-asan: full configuration under ASan and UBSan"
	@echo "make bench-crypto     the cipher's speed beside OpenSSL's and libgcrypt's"
	@echo "make fleet            thousands of brokers before one vault, simulated; also a plot"
	@echo "make fleet-processes  COUNT=50 real ones before the vault double"
	@echo "make size             the binary's size by configuration; fails over the limit"
	@echo "make kconfig-costs    what each feature adds; WRITE=1 puts it into Kconfig"
	@echo "make bench-many-disks how much longer 16 disks take to be ready than one"
	@echo "make bench-disk       byok's NBD beside qemu-nbd and nbdkit, with fio; takes minutes"
	@echo "make bench-volume     in the VM: one disk through ublk and dm-crypt; takes minutes"
	@echo "make clean            remove what was built, but not the third-party parts"
	@echo "make distclean        remove those and .config too"

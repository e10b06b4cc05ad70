# Pawl. `make demo` runs the whole loop, `make check` the tests; both install what is missing.
# Switches: DEBUG=1, SANITIZE=address,undefined (or thread), UNIT="test_tar" for a subset.

CC      ?= cc
BUILD   ?= build$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))$(if $(DEBUG),-debug)
comma   := ,
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0)

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Werror
CFLAGS_ := -std=c11 -D_GNU_SOURCE -I. $(WARN) -g -fno-omit-frame-pointer -ffp-contract=off \
           $(if $(DEBUG),-O0,-O2) $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all)
LDFLAGS_:= $(if $(SANITIZE),-fsanitize=$(SANITIZE)) -pthread
-include local.mk

PARTS     := base store queue migrations server kernels worker cli
SRC_base  := $(wildcard base/*.c)
SRC_store := $(wildcard store/*.c)
SRC_queue := $(wildcard queue/*.c)
SRC_migrations := $(wildcard migrations/*.c)
SRC_server:= $(filter-out server/main.c,$(wildcard server/*.c))
SRC_kernels := $(wildcard kernels/*.c kernels/cpu/*.c)
SRC_worker:= $(filter-out worker/main.c,$(wildcard worker/*.c worker/*/*.c))
SRC_cli   := $(filter-out cli/main.c,$(wildcard cli/*.c))

OBJ = $(patsubst %,$(BUILD)/obj/%.o,$(1))
LIB = $(foreach p,$(1),$(if $(SRC_$(p)),$(BUILD)/lib$(p).a))

LIBS_base   := -ljansson -lz -lcurl
LIBS_store  := -larchive
LIBS_queue  := -lhiredis
LIBS_server := -lcivetweb

PROGRAMS := $(foreach p,server worker,$(if $(wildcard $(p)/main.c),$(BUILD)/pawl-$(p))) \
            $(if $(wildcard cli/main.c),$(BUILD)/pawl)

.PHONY: all demo check check-unit check-flow bench web fuzz headers tidy install clean deps
all: $(PROGRAMS) $(call LIB,$(PARTS))

$(BUILD)/obj/%.c.o: %.c Makefile
	@mkdir -p $(dir $@)
	$(CC) $(CFLAGS_) $(CFLAGS) $(call extra_flags,$<) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.S.o: %.S
	@mkdir -p $(dir $@)
	$(CC) -I. -I$(BUILD) -MMD -MP -c $< -o $@

# Instruction sets are chosen per file; the table in kernels/cpu picks one at run time.
avx2_flags   := -mavx2 -mfma -mf16c
avx512_flags := $(avx2_flags) -mavx512f -mavx512bw -mavx512vl -mavx512dq
extra_flags = $(if $(filter kernels/%,$(1)),$(if $(DEBUG),,-O3)) \
              $(if $(findstring _avx2.c,$(1)),$(avx2_flags)) \
              $(if $(findstring _avx512.c,$(1)),$(avx512_flags)) \
              $(if $(findstring base/version.c,$(1)),-DPAWL_VERSION='"$(VERSION)"')

define lib_rule
$(BUILD)/lib$(1).a: $$(call OBJ,$$(SRC_$(1))) $$(EXTRA_OBJ_$(1))
	@rm -f $$@
	$$(AR) rcs $$@ $$^
endef
$(foreach p,$(PARTS),$(eval $(call lib_rule,$(p))))

$(BUILD)/pawl-server: $(call OBJ,server/main.c) $(call LIB,server migrations queue store base)
	$(CC) $(LDFLAGS_) -o $@ $^ $(LIBS_server) $(LIBS_queue) $(LIBS_store) $(LIBS_base) -lm
$(BUILD)/pawl-worker: $(call OBJ,worker/main.c) $(call LIB,worker kernels store base)
	$(CC) $(LDFLAGS_) -o $@ $^ $(LIBS_store) $(LIBS_base) -lm
$(BUILD)/pawl: $(call OBJ,cli/main.c) $(call LIB,cli store base)
	$(CC) $(LDFLAGS_) -o $@ $^ $(LIBS_store) $(LIBS_base) -lm

# --- tests -------------------------------------------------------------------------------------
UNIT ?= $(sort $(notdir $(basename $(wildcard tests/unit/test_*.c))))
UNIT_BIN := $(addprefix $(BUILD)/tests/,$(UNIT))

$(BUILD)/tests/%.list.c: tests/unit/%.c tests/unit/collect.sh
	@mkdir -p $(dir $@)
	sh tests/unit/collect.sh $< > $@
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.c.o $(BUILD)/tests/%.list.c $(BUILD)/obj/tests/runner.c.o \
                  $(call LIB,server cli worker kernels migrations queue store base)
	$(CC) $(CFLAGS_) $(LDFLAGS_) -o $@ $^ $(LIBS_server) $(LIBS_queue) $(LIBS_store) $(LIBS_base) -lm
.SECONDARY:

check-unit: $(UNIT_BIN)
	@sh tests/run-unit.sh $(UNIT_BIN)

clean:
	rm -rf build build-*

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

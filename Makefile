# Pawl. `make demo` runs the whole loop, `make check` the tests; both install what is missing.
# Switches: DEBUG=1, SANITIZE=address,undefined (or thread), UNIT="test_tar" for a subset.

CC      ?= cc
CXX     ?= c++
BUILD   ?= build$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))$(if $(DEBUG),-debug)
comma   := ,
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0)

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wformat=2 -Werror
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
LIBS_server := -lcivetweb -lcrypt

# The CUDA back end: a shared object for the device when nvcc is here (NVCC= leaves it out), and the
# same sources through the emulator of tests/cuemu for the tests. FMA only where it is written.
NVCC      ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_ARCH ?= 80 89 90
SRC_cuda  := $(wildcard kernels/cuda/*.cu)
SRC_cuda_c := $(wildcard kernels/cuda/*.c)
# Where the toolkit is, as nvcc says: the nvcc on the path may be a script or a link elsewhere.
CUDA_HOME := $(if $(NVCC),$(abspath $(shell $(NVCC) --dryrun -c x.cu 2>&1 | sed -n 's/^\#\$$ TOP=//p')))
CUDA_SO   := $(if $(NVCC),$(BUILD)/pawl-cuda.so)
NVCCFLAGS_:= -std=c++17 -O3 -I. -fmad=false -Xptxas -v -Xcompiler -fPIC,-Wall -lineinfo \
             $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$(a),code=sm_$(a)) \
             -gencode arch=compute_90,code=compute_90
SRC_cuemu := $(wildcard tests/cuemu/*.cpp tests/cuemu/*.cu)
CXXFLAGS_ := -std=c++17 -D_GNU_SOURCE -DPAWL_CUEMU -I. -Itests/cuemu/include -Wall -Wextra -Wshadow \
             -Werror -Wno-unknown-pragmas -g -fno-omit-frame-pointer -ffp-contract=off \
             $(if $(DEBUG),-O0,-O2) $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all)

PROGRAMS := $(foreach p,server worker,$(if $(wildcard $(p)/main.c),$(BUILD)/pawl-$(p))) \
            $(if $(wildcard cli/main.c),$(BUILD)/pawl)

.PHONY: all demo check check-unit check-flow check-hostile bench bench-engine bench-gemm bench-queue bench-store bench-variants bench-prompts web fuzz headers tidy install clean deps deps-test web-absent
all: $(PROGRAMS) $(call LIB,$(PARTS)) $(CUDA_SO)

$(BUILD)/obj/%.c.o: %.c Makefile
	@mkdir -p $(dir $@)
	$(CC) $(CFLAGS_) $(CFLAGS) $(call extra_flags,$<) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.S.o: %.S
	@mkdir -p $(dir $@)
	$(CC) -I. -I$(BUILD) -MMD -MP -c $< -o $@

# Instruction sets are chosen per file; the table in kernels/cpu picks one at run time.
avx2_flags   := -mavx2 -mfma -mf16c
avx512_flags := $(avx2_flags) -mavx512f -mavx512bw -mavx512vl -mavx512dq
extra_flags = $(if $(filter kernels/%,$(1)),-Wno-psabi $(if $(DEBUG),,-O3)) \
              $(if $(filter tests/unit/% tests/fuzz/%,$(1)),-Wno-missing-prototypes) \
              $(if $(filter tests/unit/test_cuda_%,$(1)),-Itests/cuemu/include) \
              $(if $(filter kernels/cuda/%,$(1)),-fPIC -isystem $(CUDA_HOME)/include) \
              $(if $(findstring _avx2.c,$(1)),$(avx2_flags)) \
              $(if $(findstring _avx512.c,$(1)),$(avx512_flags)) \
              $(if $(findstring _avx512bf16.c,$(1)),$(avx512_flags) -mavx512bf16 -mavx512vnni) \
              $(if $(findstring base/version.c,$(1)),-DPAWL_VERSION='"$(VERSION)"')

# The function library is embedded as text; .incbin is not seen by -MMD.
EXTRA_OBJ_queue := $(BUILD)/obj/queue/lua.S.o
$(EXTRA_OBJ_queue): $(wildcard queue/lua/*.lua) $(BUILD)/states.lua
# Lua gets the tables of states and moves from the file that C includes.
$(BUILD)/states.lua: queue/states.lua.in queue/states.def
	@mkdir -p $(dir $@)
	$(CC) -E -P -x c -I. $< | grep . > $@.tmp && mv $@.tmp $@
# The judge templates are embedded likewise.
EXTRA_OBJ_worker := $(BUILD)/obj/worker/method/judge_files.S.o
$(EXTRA_OBJ_worker): $(wildcard worker/method/templates/*.judge)
# The dashboard's tables are in the tree, since pages are built without a C compiler; tests/tidy.sh compares.
.PHONY: states
states:
	CC=$(CC) sh queue/states-ts.sh > web/src/lib/states.gen.ts
# The server carries the web pages and the API's description; see server/embed.sh.
EXTRA_OBJ_server := $(BUILD)/obj/assets.o
$(BUILD)/assets.S: server/embed.sh server/no-ui.html server/openapi.json $(wildcard web/dist/* web/dist/*/*)
	@mkdir -p $(dir $@)
	sh server/embed.sh $(BUILD)/assets > $@.tmp && mv $@.tmp $@
$(BUILD)/obj/assets.o: $(BUILD)/assets.S
	@mkdir -p $(dir $@)
	$(CC) -c $< -o $@

# The version is compiled in, so it is looked at on every build.
$(BUILD)/version.stamp: FORCE
	@mkdir -p $(BUILD)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@
$(BUILD)/obj/base/version.c.o: $(BUILD)/version.stamp
.PHONY: FORCE

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

# --- CUDA ----------------------------------------------------------------------------------------
$(BUILD)/obj/%.cu.o: %.cu Makefile
	@mkdir -p $(dir $@)
	$(NVCC) $(NVCCFLAGS_) $(NVCCFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@ 2> $@.ptxas || \
	  { cat $@.ptxas >&2; exit 1; }
$(BUILD)/pawl-cuda.so: $(call OBJ,$(SRC_cuda) $(SRC_cuda_c))
	$(NVCC) -shared -o $@ $^ -L$(CUDA_HOME)/lib64 -lcublasLt -Xlinker -rpath,$(CUDA_HOME)/lib64
# Registers of every kernel beside kernels/cuda/registers.txt.
.PHONY: check-cuda cuda-registers
check-cuda: $(CUDA_SO)
	@sh tests/cuda-registers.sh check $(addsuffix .ptxas,$(if $(NVCC),$(call OBJ,$(SRC_cuda))))
cuda-registers: $(CUDA_SO)
	@sh tests/cuda-registers.sh write $(addsuffix .ptxas,$(call OBJ,$(SRC_cuda)))
$(BUILD)/obj/cuemu/%.o: % Makefile
	@mkdir -p $(dir $@)
	$(CXX) $(CXXFLAGS_) $(CXXFLAGS) -MMD -MP -x c++ -c $< -o $@
$(BUILD)/obj/cuemu/%.c.o: %.c Makefile
	@mkdir -p $(dir $@)
	$(CC) $(CFLAGS_) $(CFLAGS) -Itests/cuemu/include -MMD -MP -c $< -o $@
$(BUILD)/libcuemu.a: $(patsubst %,$(BUILD)/obj/cuemu/%.o,$(SRC_cuda) $(SRC_cuda_c) $(SRC_cuemu))
	@rm -f $@
	$(AR) rcs $@ $^

# On a machine with a GPU: every operation and whole models beside the CPU's, and the speed of it. They
# need a C compiler, nvcc and jansson, and end with status 77 where there is no device. ARGS="7b" picks
# shapes.
SRC_gpu := $(filter-out tests/gpu/check.c tests/gpu/bench.c,$(wildcard tests/gpu/*.c))
SRC_twin := tests/twin.c tests/checks.c $(wildcard tests/ref64*.c)
LIB_gpu := $(call LIB,worker kernels store base)
$(BUILD)/check-gpu: $(call OBJ,tests/gpu/check.c $(SRC_gpu) $(SRC_twin)) $(LIB_gpu)
	$(CC) $(CFLAGS_) $(LDFLAGS_) -o $@ $^ -ljansson -ldl -lm
$(BUILD)/bench-gpu: $(call OBJ,tests/gpu/bench.c $(SRC_gpu) $(SRC_twin)) $(LIB_gpu)
	$(CC) $(CFLAGS_) $(LDFLAGS_) -o $@ $^ -ljansson -ldl -lm
.PHONY: cuda check-gpu bench-gpu
cuda: $(CUDA_SO)
	@$(if $(NVCC),:,echo "cuda: nvcc is not here; nothing is built"; exit 1)
check-gpu: $(CUDA_SO) $(BUILD)/check-gpu
	$(BUILD)/check-gpu
	@if command -v compute-sanitizer >/dev/null; then \
	  compute-sanitizer --error-exitcode 3 $(BUILD)/check-gpu; \
	else echo "compute-sanitizer is not here"; fi
# PyTorch beside it where python has torch and transformers. ARGS="quality MODEL TEXT": what formats of
# weights cost a model on a text.
bench-gpu: $(CUDA_SO) $(BUILD)/bench-gpu
	@{ $(BUILD)/bench-gpu $(ARGS); echo $$? >$(BUILD)/bench-gpu.rc; } | tee $(BUILD)/bench-gpu.txt
	@exit $$(cat $(BUILD)/bench-gpu.rc)
	@$(if $(filter quality,$(ARGS)),:,python3 tests/gpu/peer.py $(BUILD)/bench-gpu.txt $(ARGS)) || [ $$? -eq 77 ]

# --- tests -------------------------------------------------------------------------------------
UNIT ?= $(sort $(notdir $(basename $(wildcard tests/unit/test_*.c))))
# The queue against its model: 100,000 operations, fewer under sanitizers; `make check-model` is the
# long form.
# ASan and UBSan see every suite; TSan those with threads of their own.
UNIT_SANITIZED ?= $(UNIT)
UNIT_THREADS ?= $(filter test_kernels% test_collective test_combine test_ranks test_infer% test_far test_fetch test_queue_reads test_saving test_store test_ahead test_behind,$(UNIT))
UNIT_BIN := $(addprefix $(BUILD)/tests/,$(UNIT))

$(BUILD)/tests/%.list.c: tests/unit/%.c tests/unit/collect.sh
	@mkdir -p $(dir $@)
	sh tests/unit/collect.sh $< > $@
# What several tests share (a Redis of their own, ...).
$(BUILD)/libtests.a: $(call OBJ,$(filter-out tests/runner.c,$(wildcard tests/*.c)) $(SRC_gpu))
	@rm -f $@
	$(AR) rcs $@ $^
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.c.o $(BUILD)/tests/%.list.c $(BUILD)/obj/tests/runner.c.o \
                  $(BUILD)/libtests.a $(call LIB,server cli worker kernels migrations queue store base)
	$(CC) $(CFLAGS_) $(LDFLAGS_) -o $@ $^ $(LIBS_server) $(LIBS_queue) $(LIBS_store) $(LIBS_base) -lm
$(BUILD)/tests/test_cuda_%: $(BUILD)/obj/tests/unit/test_cuda_%.c.o $(BUILD)/tests/test_cuda_%.list.c \
                  $(BUILD)/obj/tests/runner.c.o $(BUILD)/libtests.a \
                  $(call LIB,worker kernels migrations queue store base) $(BUILD)/libcuemu.a
	$(CC) $(CFLAGS_) $(LDFLAGS_) -o $@ $^ $(LIBS_queue) $(LIBS_store) $(LIBS_base) -lstdc++ -lm
.SECONDARY:
# The driver's library of figures, as tests want it; one with everything, one of an old driver.
NVML_FAKE := $(BUILD)/tests/nvml/libnvidia-ml.so.1 $(BUILD)/tests/nvml/old/libnvidia-ml.so.1
$(NVML_FAKE): tests/nvml/fake.c Makefile
	@mkdir -p $(dir $@)
	$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -g -fPIC -shared $(if $(findstring /old/,$@),-DNVML_FAKE_OLD) -o $@ $<
$(BUILD)/tests/test_gpu_guard $(BUILD)/tests/test_gpu_watch: | $(NVML_FAKE)

.PHONY: unit-built
unit-built: $(UNIT_BIN)
check-unit: unit-built
	@sh tests/run-unit.sh $(UNIT_BIN)
# Hours of the queue's model test: PARTS processes of OPS operations.
.PHONY: check-model
check-model: $(BUILD)/tests/test_queue_model
	@bash tests/chaos/model.sh $< $(or $(DIR),$(BUILD)/model)

tidy:
	@sh tests/tidy.sh
headers:
	@CC=$(CC) sh tests/headers.sh

# Real programs on free ports; LONG=1 adds the long ones, FLOW="tests/flow/0001-x.sh" picks.
check-flow: all
	@BUILD=$(BUILD) sh tests/run-flow.sh $(FLOW)

# Hostile requests to a server under the sanitizers, and a little of tests/fuzz/fuzz_http.c.
check-hostile:
	@$(MAKE) --no-print-directory SANITIZE=address,undefined NVCC= build-address-undefined/pawl-server
	@BUILD=build-address-undefined sh tests/run-flow.sh $(wildcard tests/flow/202*.sh)
	@$(MAKE) --no-print-directory fuzz FUZZ=http RUNS=3000

# The browser's part, when node is here; without it the server says that it has no pages.
web: $(if $(shell command -v npm),web/dist/index.html,web-absent)
web-absent:
	@echo "web: node is not installed, building without the web pages"
web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
web/dist/index.html: web/node_modules/.package-lock.json web/tsconfig.json web/build.mjs web/types.mjs server/openapi.json \
                     $(wildcard web/src/* web/src/*/*)
	cd web && npm run --silent build

# Figures beside the machine's own limits.
BENCH := $(filter-out %/engine %/server,\
           $(patsubst tests/bench/bench_%.c,$(BUILD)/bench/%,$(wildcard tests/bench/bench_*.c)))
$(BUILD)/libbench.a: $(call OBJ,$(filter-out tests/bench/bench_%,$(wildcard tests/bench/*.c)))
	@rm -f $@
	$(AR) rcs $@ $^
$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/bench_%.c.o $(BUILD)/libbench.a \
                  $(call LIB,worker kernels migrations queue store base)
	@mkdir -p $(dir $@)
	$(CC) $(CFLAGS_) $(LDFLAGS_) -o $@ $^ $(LIBS_queue) $(LIBS_store) $(LIBS_base) -lm
$(BUILD)/bench/server: LIBS_queue += $(LIBS_server)
bench: $(BENCH)
	@for b in $(BENCH); do echo "== $$(basename $$b)"; $$b || exit 1; done
# Matrix products; PEERS=1: beside OpenBLAS, BLIS and oneDNN, those that are installed (Debian:
# libopenblas0-pthread libblis4-pthread libdnnl-dev). See kernels/BENCH.md.
bench-gemm: $(if $(PEERS),$(BUILD)/bench/peers-gemm,$(BUILD)/bench/kernels)
	$< $(ARGS)
$(BUILD)/bench/peers-gemm: $(BUILD)/obj/tests/bench/peers/bench_gemm.c.o $(call LIB,kernels)
	@mkdir -p $(dir $@)
	$(CC) $(CFLAGS_) $(LDFLAGS_) -o $@ $^ -ldl -lm
# The engine beside the machine's limits and, with PEERS=1 (python3-torch) and LLAMA=DIR (llama.cpp's
# binaries; GGUF=DIR their models), beside its peers; see tests/bench/ENGINE.md. QUICK=1: less of all.
bench-engine: $(BUILD)/bench/engine
	@BENCH_ENGINE=$< PEERS=$(PEERS) LLAMA=$(LLAMA) GGUF=$(GGUF) QUICK=$(QUICK) ONLY=$(ONLY) \
	  python3 tests/bench/engine.py

# The store beside dd on the disk of DIR (/tmp), in volumes of VOLUME MiB; MIB=20480 ROUNDS=1 is the long form.
bench-store: $(BUILD)/bench/store
	@$< $(or $(DIR),/tmp) $(or $(MIB),256) $(or $(ROUNDS),5) $(VOLUME)
# Streams, long polls, downloads and views at once on one server; see tests/bench/SERVER.md.
bench-server: all $(BUILD)/bench/server
	@FLOW_DIR=$$(mktemp -d) PAWL_BUILD=$(BUILD) bash tests/bench/server.sh

# Kinds of training in the demo world over five seeds; hours on one core, resumable: tests/bench/DEMO.md.
bench-variants: all
	@python3 tests/bench/demo-variants.py --bin $(BUILD) --data $(BUILD)/variants $(ARGS)
# 10^5 prompts through the filters of Self-Instruct: a minute of one core.
bench-prompts: all
	@python3 tests/bench/prompts.py --bin $(BUILD) $(ARGS)
# The queue beside BullMQ (BULLMQ=DIR with node_modules/bullmq and ioredis), beanstalkd and a bare LMOVE.
bench-queue: $(BUILD)/bench/queue
	@BENCH_QUEUE=$< BULLMQ=$(BULLMQ) python3 tests/bench/queue.py

# Each target twice: with our own driver (any compiler), and with libFuzzer when clang is here.
# FUZZ_SRC_<target> names sources it needs beyond base and store. RUNS inputs per target, or CPU_S
# seconds of processor time (600 is the long form); FUZZ=http picks.
FUZZ := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
RUNS ?= 20000
CLANG := $(shell command -v clang)
FUZZ_FLAGS := -std=c11 -D_GNU_SOURCE -I. -g -O1 -fno-sanitize-recover=all
FUZZ_SRC_token_json := $(wildcard worker/model/token*.c)
FUZZ_SRC_token_spm := $(FUZZ_SRC_token_json)
FUZZ_SRC_config = worker/model/config.c
FUZZ_SRC_judge = $(wildcard worker/method/*.c) $(EXTRA_OBJ_worker)
FUZZ_SRC_seed  = $(FUZZ_SRC_judge)
FUZZ_SRC_jsonl = $(FUZZ_SRC_judge)
# A whole server in the process, with a Redis of its own.
FUZZ_SRC_http = $(SRC_server) $(SRC_queue) $(SRC_migrations) tests/redis_fixture.c $(EXTRA_OBJ_queue) $(EXTRA_OBJ_server)
FUZZ_LIBS_http = $(LIBS_server) $(LIBS_queue)
FUZZ_SRC_resp = queue/redis.c queue/redis_url.c
FUZZ_LIBS_resp = $(LIBS_queue)

$(BUILD)/obj/fuzz/%.c.o: %.c Makefile
	@mkdir -p $(dir $@)
	$(CC) -fsanitize=address,undefined $(FUZZ_FLAGS) -MMD -MP -c $< -o $@
$(BUILD)/obj/libfuzzer/%.c.o: %.c Makefile
	@mkdir -p $(dir $@)
	$(CLANG) -fsanitize=fuzzer-no-link,address,undefined $(FUZZ_FLAGS) -MMD -MP -c $< -o $@
# $(call fuzz_obj,fuzz or libfuzzer,target)
fuzz_obj = $(patsubst %,$(BUILD)/obj/$(1)/%.o,tests/fuzz/fuzz_$(2).c $(SRC_base) $(SRC_store) $(filter %.c,$(FUZZ_SRC_$(2)))) \
           $(filter-out %.c,$(FUZZ_SRC_$(2)))
define fuzz_rule
$(BUILD)/fuzz/$(1): $(call fuzz_obj,fuzz,$(1)) $(BUILD)/obj/fuzz/tests/fuzz/driver.c.o $(if $(CLANG),| $(BUILD)/fuzz/$(1).libfuzzer)
	@mkdir -p $$(@D)
	$$(CC) -fsanitize=address,undefined -o $$@ $$^ $$(FUZZ_LIBS_$(1)) $$(LIBS_store) $$(LIBS_base) -pthread -lm
$(BUILD)/fuzz/$(1).libfuzzer: $(call fuzz_obj,libfuzzer,$(1))
	@mkdir -p $$(@D)
	$$(CLANG) -fsanitize=fuzzer,address,undefined -o $$@ $$^ $$(FUZZ_LIBS_$(1)) $$(LIBS_store) $$(LIBS_base) -pthread -lm
endef
$(foreach f,$(FUZZ),$(eval $(call fuzz_rule,$(f))))
fuzz: $(addprefix $(BUILD)/fuzz/,$(FUZZ))
	@$(if $(CPU_S),python3 tests/fuzz/long.py $(CPU_S),RUNS=$(RUNS) sh tests/fuzz/run.sh) $^

# Everything that passes without a GPU. Suites run also after a failure; the last line is the sum. All is
# built first, so that what runs beside each other only tests; flows wait most of the time.
JOBS ?= $(shell nproc)
SUB   = $(MAKE) --no-print-directory -j$(JOBS)
check: deps-test
	@$(MAKE) --no-print-directory web
	@sh tests/check.sh \
	  build     '$(SUB) -s all $(UNIT_BIN) && $(SUB) -s SANITIZE=thread NVCC= UNIT="$(UNIT_THREADS)" unit-built && \
	             $(SUB) -s SANITIZE=address,undefined NVCC= UNIT="$(UNIT_SANITIZED)" unit-built build-address-undefined/pawl-server' \
	  -- \
	  unit      '$(MAKE) --no-print-directory check-unit' \
	  sanitized 'PAWL_QUEUE_OPS=6000 $(MAKE) --no-print-directory check-unit SANITIZE=address,undefined NVCC= UNIT="$(UNIT_SANITIZED)"' \
	  threads   'PAWL_QUEUE_OPS=6000 $(MAKE) --no-print-directory check-unit SANITIZE=thread NVCC= UNIT="$(UNIT_THREADS)"' \
	  -- \
	  browser   'BUILD=$(BUILD) sh tests/browser/run.sh' \
	  hostile   '$(MAKE) --no-print-directory check-hostile' \
	  cuda      '$(MAKE) --no-print-directory check-cuda' \
	  tidy      'sh tests/tidy.sh' \
	  headers   'CC=$(CC) sh tests/headers.sh' \
	  -- \
	  flow      'FLOW_JOBS=2 BUILD=$(BUILD) sh tests/run-flow.sh'

# The loop on one machine, in a browser, with a worker killed on the way.
demo: deps
	@$(MAKE) --no-print-directory web
	@$(SUB) all
	@$(BUILD)/pawl demo $(DEMO)

deps:
	@deploy/install-deps.sh
deps-test:
	@deploy/install-deps.sh test

PREFIX ?= /usr/local
install: all
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(PROGRAMS)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/pawl deploy/redis.conf deploy/redis-users.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system $(wildcard deploy/*.service)
	mkdir -p $(BUILD)/share
	$(BUILD)/pawl man > $(BUILD)/share/pawl.1
	for s in bash zsh fish; do $(BUILD)/pawl completion $$s > $(BUILD)/share/$$s || exit 1; done
	install -D -m 644 $(BUILD)/share/pawl.1 $(DESTDIR)$(PREFIX)/share/man/man1/pawl.1
	install -D -m 644 $(BUILD)/share/bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pawl
	install -D -m 644 $(BUILD)/share/zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_pawl
	install -D -m 644 $(BUILD)/share/fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pawl.fish

clean:
	rm -rf build build-*

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

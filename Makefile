# make lab            set up .venv, then open the first chapter in JupyterLab
# make demo           set up, then draw twelve captions into outputs/demo.png
# make play           set up, then draw with the model in the browser: `course play`
# make test           set up, then run lint, tests, and every notebook from top to bottom, in two
#                     processes, each of which takes whole files
# make test-editions  run every chapter and capstone of the student edition, and grade all solutions;
#                     `make test` runs two chapters of it
# make site           build the website in outputs/site, which needs no network; with the playground
#                     once `make play` has built it
# make test-site      build it, and look at every page in Chromium; `make test` looks at some
# make test-matrix    run the tests under the oldest torch as well: tests/MATRIX.md
# make notebooks      run the notebooks, save them in the form that git keeps, and fill in the
#                     README's tables
# make checksums      after `course train NAME --publish`: record the models in data/checkpoints as
#                     the ones that ship, for `course doctor`
# make parity         measure the agreement with diffusers and transformers: tests/PARITY.md
# make refusals       count the bad input that the tests see refused: tests/REFUSALS.md
# make bench          compare the course's speed with its peers': tests/benchmarks/RESULTS.md
# make wheelhouse     collect every wheel in wheels/, for similar machines without a network
# make clean          remove .venv
#
# PYTHON=python3.12   the Python that makes .venv; by default the first suitable one
# WHEELS=folder       install from this folder only
# ARGS="--port 9999"  passed on to JupyterLab, demo, play, notebooks (which ones), or bench

PYTHON ?=
WHEELS ?=
ARGS ?=
RUN := .venv/bin/python -m
# a variable, not -c: it also overrides the constraints in a machine's own pip.conf
PIP := PIP_CONSTRAINT=constraints.txt $(RUN) pip --disable-pip-version-check
SOURCE := $(if $(WHEELS),--no-index --find-links "$(WHEELS)")
THREADS := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2}

.PHONY: lab demo play test test-editions site test-site test-matrix notebooks checksums parity refusals bench wheelhouse clean FORCE

lab: .venv/lab.stamp
	@$(RUN) course_lib.cli lab $(ARGS)

demo: .venv/lab.stamp
	@$(RUN) course_lib.cli demo $(ARGS)

play: .venv/onnx.stamp
	@$(RUN) course_lib.cli play $(if $(WHEELS),--npm "$(WHEELS)") $(ARGS)

test: .venv/dev.stamp
	$(RUN) ruff check
	$(RUN) ruff format --check
	OMP_NUM_THREADS=1 TQDM_MININTERVAL=1 $(RUN) pytest -n 2 --dist loadfile tests notebooks/ \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=300

test-editions: .venv/dev.stamp
	$(THREADS) $(RUN) pytest -q --editions tests/authoring/test_editions.py \
		tests/authoring/test_grade.py

site: .venv/site.stamp
	@$(RUN) course_lib.authoring.site outputs/site $(ARGS)

test-site: .venv/dev.stamp
	$(THREADS) $(RUN) pytest -q --site tests/authoring/test_site.py

test-matrix:
	$(THREADS) .ci/test-matrix 2.11.0:0.26.0

notebooks: .venv/dev.stamp
	$(THREADS) $(RUN) course_lib.authoring.notebooks $(ARGS)
	$(RUN) course_lib.authoring.readme

checksums:
	cd data/checkpoints && sha256sum *.safetensors > SHA256SUMS

parity: .venv/dev.stamp
	$(THREADS) $(RUN) pytest -q --parity tests/diffusion/test_schedules.py \
		tests/diffusion/test_sampler_parity.py tests/models/test_models_parity.py \
		tests/pipelines/stable_diffusion/test_checkpoint.py \
		tests/pipelines/stable_diffusion/test_controlnet.py \
		tests/pipelines/stable_diffusion/test_lora.py \
		tests/pipelines/stable_diffusion/test_textual_inversion.py

refusals: .venv/dev.stamp
	$(THREADS) $(RUN) pytest -q --refusals tests

bench: .venv/dev.stamp
	$(THREADS) $(RUN) tests.benchmarks.bench $(ARGS)

wheelhouse:
	@$(make_venv)
	$(PIP) download --only-binary=:all: -d wheels setuptools ".[dev]"
	$(RUN) course_lib.authoring.playground.packages wheels
	@echo 'Now, on a machine without a network: make lab WHEELS=/path/to/wheels'

clean:
	rm -rf .venv

# A stamp records that .venv holds what pyproject.toml and constraints.txt require.
.venv/dev.stamp: EXTRA := [dev]
.venv/site.stamp: EXTRA := [site]
.venv/onnx.stamp: EXTRA := [onnx]
.venv/%.stamp: pyproject.toml constraints.txt
	@$(make_venv)
	@$(if $(WHEELS),test -d "$(WHEELS)" || { echo "WHEELS: no folder $(WHEELS)" >&2; exit 1; })
	$(PIP) install $(SOURCE) -e ".$(EXTRA)"
	@touch $@

# A copied or renamed folder needs a new .venv, because the scripts in it contain the old path.
ifeq ($(shell grep -F "$(CURDIR)/.venv" .venv/bin/activate 2>/dev/null),)
.venv/lab.stamp .venv/site.stamp .venv/onnx.stamp .venv/dev.stamp: FORCE
endif

# Python 3.11 to 3.13 are tested; to use a later one, name it with PYTHON=.
FITS = import sys, venv, ensurepip; \
       sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $(if $(PYTHON),99,13)))

define make_venv
if .venv/bin/python -m pip --version >/dev/null 2>&1 \
    && grep -qF "$$(pwd -P)/.venv" .venv/bin/activate; then exit 0; fi; \
for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python); do \
  if "$$python" -c "$(FITS)" 2>/dev/null; then \
    echo "Making .venv with $$("$$python" --version)"; exec "$$python" -m venv --clear .venv; \
  fi; \
  version=$$("$$python" --version 2>&1) && found="$$found $$python is $$version;"; \
done; \
echo "The course needs Python 3.11, 3.12 or 3.13 with its venv module (a package of its own on" \
  "Debian and Ubuntu: python3-venv).$${found:- None was found;} name another with" \
  "'make $(or $(MAKECMDGOALS),lab) PYTHON=/path/to/python3.12'." >&2; \
exit 1
endef

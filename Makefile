# make reports · make test · make quick · make test-faults · make lab · make compare · make student · make web · make slides   (each builds .venv by itself the first time)
PROFILE ?= laptop
JOBS ?= 2
supported := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do $$p -c '$(supported)' 2>/dev/null && echo $$p && break; done)
WEB ?= build/web
SLIDES ?= build/slides
ort := onnxruntime-web-1.30.0
reveal := reveal.js-6.0.2
bin := .venv/bin
pip := $(bin)/python -m pip --quiet --quiet --disable-pip-version-check
ready := .venv/.ready

.PHONY: reports test quick test-faults style lab compare student web slides readme lock clean

reports: $(ready)  ## run every lesson and write reports/ (PROFILE=smoke|laptop|overnight|paper)
	$(bin)/python -m colorlib run --profile $(PROFILE) --jobs $(JOBS)

test: style  ## style; unit, property and fault tests; every notebook at smoke, then nbval
	@echo "== tests: two at a time; the notebooks come first and take longest"
	@$(bin)/python -m pytest --numprocesses 2 --dist loadgroup --durations 8

quick: style  ## the same without notebooks: under a minute
	@$(bin)/python -m pytest --numprocesses 2 --dist loadgroup -m "not slow"

style: $(ready)
	@echo "== style: ruff, nbstripout"
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --quiet --check .
	@$(bin)/nbstripout --verify --keep-id $(wildcard notebooks/*.ipynb notebooks/studies/*.ipynb)

test-faults: style  ## kills, full disks, bad pictures, weights, downloads, parameters: the long list, half an hour
	@$(bin)/python -m pytest tests/faults --long --numprocesses 2 --dist loadgroup --durations 8

lab: $(ready)  ## open JupyterLab on the primer, the other notebooks beside it
	$(bin)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_primer.ipynb

compare: $(ready)  ## hold my own runs against the committed reports
	$(bin)/python -m colorlib compare

student: $(ready)  ## the project without the exercises' solutions, to hand out: build/student/
	rm -rf build/student
	$(bin)/python -m colorlib student

web: $(ready) build/$(ort).tgz  ## a page that colours photos in the browser (WEIGHTS=FILE: by other weights than the best run's)
	@mkdir -p $(WEB)
	@cp colorlib/templates/web/* $(WEB)
	@tar -xzOf build/$(ort).tgz package/dist/ort.wasm.bundle.min.mjs > $(WEB)/ort.js
	@tar -xzOf build/$(ort).tgz package/dist/ort-wasm-simd-threaded.wasm > $(WEB)/ort-wasm-simd-threaded.wasm
	@$(bin)/python -m colorlib export -o $(WEB)/model.onnx $(if $(WEIGHTS),--weights $(WEIGHTS))
	@echo "$(WEB) is ready for any web server, say python -m http.server -d $(WEB): http://localhost:8000"

slides: build/$(reveal).tgz  ## the reports as slides for a lecture, without a network: build/slides/
	@mkdir -p $(SLIDES) && cd $(SLIDES) && rm -rf laptop overnight paper
	@tar -cf - -C reports --exclude 'weights' --exclude 'checkpoints' --exclude '.*' --exclude '*.json' --exclude '*.ipynb' \
	  $(notdir $(wildcard reports/*.html reports/laptop reports/overnight reports/paper)) | tar -xf - -C $(SLIDES)
	@{ echo '<style>'; tar -xzOf $< package/dist/reveal.css; cat colorlib/templates/slides/slides.css; \
	  echo '</style><script>'; tar -xzOf $< package/dist/reveal.js; cat colorlib/templates/slides/slides.js; \
	  echo '</script>'; } > $(SLIDES)/deck.html
	@find $(SLIDES) -mindepth 3 -name index.html -exec sed -i.bak '/^<\/main>/r $(SLIDES)/deck.html' {} +
	@find $(SLIDES) -name '*.bak' -delete -o -name deck.html -delete
	@echo "open $(SLIDES)/index.html: each report is a deck (space: on, Esc: all slides; to print, ?print-pdf after its address)"

# what runs in browsers: the network's runtime, the slides
build/%.tgz:
	@command -v npm > /dev/null || { echo "this needs npm, which comes with Node.js: https://nodejs.org"; exit 1; }
	@mkdir -p build
	@cd build && npm pack --silent $(shell echo $* | sed 's/-\([0-9.]*\)$$/@\1/') > /dev/null

# torch first: the build it brings (CPU or CUDA) decides, the rest of the lock fits beside it;
# announcements: JupyterLab would ask for news and look for updates, which nothing here needs a network for
$(ready): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "colorlib needs Python 3.10, 3.11 or 3.12 on the PATH (or make PYTHON=...)"; exit 1; }
	@echo "== building .venv with $(PYTHON), once: two minutes, 2 GB (more where torch brings CUDA)"
	@$(PYTHON) -m venv --clear .venv
	@echo "   torch" && $(pip) install --constraint requirements.lock torch==2.13.0
	@echo "   everything else" && $(pip) install --requirement requirements.lock
	@echo "   colorlib" && $(pip) install --no-deps --no-build-isolation --editable .
	@$(bin)/python -m colorlib.batch.speed
	@$(bin)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements 2>/dev/null
	@$(bin)/python -c "import colorlib; print('   colorlib', colorlib.__version__, 'is ready')"
	@touch $@

readme: $(ready)  ## put the committed reports' numbers into README.md (a test compares them)
	$(bin)/python -c "from colorlib.batch import results; results.write_readme('README.md', 'reports')"

# needs `pip install uv`; CUDA's wheels stay out: torch brings those that fit its own build
lock:  ## resolve pyproject.toml anew, for every supported Python
	uv pip compile --universal --python-version 3.10 --all-extras --no-annotate --no-header --quiet pyproject.toml \
	  | grep -Ev '^(nvidia-|cuda-|triton==|torch==)' > requirements.lock

clean:  ## forget the environment and the caches; data and reports stay
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache colorlib.egg-info

# make demo    analyse the built-in model on the built-in text; prints the report's path last
# make test    the default test suite
# make check   format, lint, types
# make accuracy   measure models with known answers, and write docs/accuracy.md again
# make mutations  plant bugs in copies of the code and see the tests catch each
# make gallery   the pages in examples/gallery, made again
# make results   measure what docs/results.md says, and write it again
# make docs    the site, in site/: docs, gallery, and Python by docstrings; every link is checked
# make readme  write the lists of the README and of docs again
# make clean   remove what the other targets made, but no run folder

PYTHON ?= python3
VENV ?= .venv

# Idle OpenMP threads that spin slow down everything else on a machine with few cores.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: demo test check accuracy mutations gallery results docs readme clean

demo: $(VENV)/.installed
	@$(VENV)/bin/probekit analyze

test: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.installed-test
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy probekit tests

accuracy: $(VENV)/.installed
	$(VENV)/bin/python benchmarks/accuracy.py

mutations: $(VENV)/.installed-test
	PYTHONPATH=tests $(VENV)/bin/python -m support.mutations

gallery: $(VENV)/.installed-test
	$(VENV)/bin/python examples/gallery.py

results: $(VENV)/.installed
	$(VENV)/bin/python examples/results.py

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo site/index.html

readme: $(VENV)/.installed-test
	PYTHONPATH=tests $(VENV)/bin/python tests/test_readme.py
	PYTHONPATH=tests $(VENV)/bin/python tests/runs/test_schema.py
	PYTHONPATH=tests:. $(VENV)/bin/python tests/hostile/test_cases.py

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find probekit/ cli reports tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# pip, not the folder: a creation that failed half-way leaves a folder without it.
$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# The stamps say for which pyproject.toml the installation was made.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/.installed

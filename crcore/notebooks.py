"""Run the notebooks headlessly, and give each of them a place for its products.

``python -m crcore.notebooks run NAME PROFILE`` executes one through papermill;
``... finish PROFILE`` publishes figures and says how everything went.
"""

import argparse
import filecmp
import re
import shutil
import sys
import time
import warnings
from pathlib import Path

from crcore import results
from crcore.errors import InputError
from crcore.paths import FIGURES, NOTEBOOKS, ROOT, Build, user_data
from crcore.profiles import load_profile

__all__ = ["NotebookRun", "execute", "finish", "notebook_names"]


def notebook_names():
    """Names of the numbered notebooks, in order."""
    return sorted(p.stem for p in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


class NotebookRun:
    """What a notebook needs: its profile, and where its figures, tables and numbers go.

    Parameters
    ----------
    name : str
        The notebook's, such as "06_lco".
    profile : str
        "smoke", "laptop" or "paper".
    """

    def __init__(self, name, profile):
        self.name = name
        self.profile = load_profile(profile)
        self.build = self.profile.build
        self.folder = self.build.results / name
        self._begun = time.monotonic()
        self._products = []

    def figure(self, figure, name, *, shows, data, dpi=150):
        """Save a figure as PNG and remember what it shows and which data it is drawn from."""
        with results.atomic(self.build.figures / f"{name}.png") as part:
            figure.savefig(part, dpi=dpi, metadata={"Software": None}, bbox_inches="tight")
        self._products.append({"file": f"{name}.png", "shows": shows, "data": data})
        return figure

    def picture(self, make, name, *, shows, data):
        """Keep a PNG that ``make(path)`` writes; True, or False (and a line) where it cannot be made here."""
        try:
            with results.atomic(self.build.figures / f"{name}.png") as part:
                make(part)
        except InputError as error:
            print(f"{name}: not made: {error}")
            return False
        self._products.append({"file": f"{name}.png", "shows": shows, "data": data})
        return True

    def table(self, table, name, *, shows, data):
        """Write a `crcore.tables.Table` as CSV, Markdown and LaTeX from the same rows."""
        for suffix, text in table.renderings().items():
            with results.atomic(self.build.figures / "tables" / f"{name}.{suffix}") as part:
                part.write_text(text)
        self._products.append({"file": f"tables/{name}.md", "shows": shows, "data": data})
        return table

    def rows(self, rows, name):
        """Write tidy rows as CSV among the results."""
        results.write_rows(self.folder / f"{name}.csv", rows)

    def close(self, **values):
        """Write ``result.json``: the values, the products, and how they were made."""
        results.write_json(
            self.folder / "result.json",
            {
                "notebook": self.name,
                "profile": self.profile.name,
                "values": values,
                "products": self._products,
                "made": results.provenance(seed=self.profile.simulation.seed, seconds=time.monotonic() - self._begun),
            },
        )

    def read(self, notebook, file):
        """Results of another notebook: rows of a CSV, or the values of its ``result.json``."""
        path = self.build.results / notebook / file
        if not path.exists():
            raise InputError(f"{path}: not there yet: run notebook {notebook} with profile {self.profile.name} first")
        return results.read_rows(path) if path.suffix == ".csv" else results.read_json(path)


def execute(name, profile):
    """Execute one notebook; returns the exit status, 0 or 1.

    The executed copy goes to ``build/<profile>/notebooks/<name>.ipynb``; one that
    failed is kept as ``<name>.failed.ipynb``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import papermill
        from papermill.exceptions import PapermillExecutionError

    load_profile(profile)
    build = Build(profile)
    source, target = NOTEBOOKS / f"{name}.ipynb", build.notebooks / f"{name}.ipynb"
    if not source.exists():
        raise InputError(f"notebook {name!r} is unknown: use one of {', '.join(notebook_names())}")
    failed = target.with_suffix(".failed.ipynb")
    build.notebooks.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    failed.with_suffix(".txt").unlink(missing_ok=True)
    print(f"{name}: started", flush=True)
    begun = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            papermill.execute_notebook(
                source,
                failed,
                parameters={"profile": profile},
                cwd=ROOT,
                kernel_name="python3",
                progress_bar=False,
                stdout_file=sys.stdout,
                request_save_on_cell_execute=True,
            )
    except PapermillExecutionError as error:
        return _report_failure(name, f"{error.ename}: {_short(error.evalue)}", failed)
    except Exception as error:  # the kernel died or the notebook is damaged: the other branches go on
        return _report_failure(name, f"{type(error).__name__}: {_short(error)}", failed)
    failed.replace(target)
    print(f"{name}: done in {time.monotonic() - begun:.0f} s", flush=True)
    return 0


def _report_failure(name, reason, failed):
    """Say in one line what went wrong, now and again in the summary; the status is 1."""
    line = f"{name}: FAILED: {reason} (see {_shown(failed)})"
    failed.with_suffix(".txt").write_text(line + "\n")
    print(line, file=sys.stderr, flush=True)
    return 1


def _short(text):
    lines = [line for line in str(text).splitlines() if line.strip()]
    return lines[0][:300] if lines else "no message"


def _shown(path):
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def finish(profile):
    """Publish the laptop profile's figures with their index, and print a summary; 0 when all is there."""
    build = Build(profile)
    folder = FIGURES if profile == "laptop" else build.figures
    done, broken, index = [], [], []
    for name in notebook_names():
        path = build.results / name / "result.json"
        executed, failed = build.notebooks / f"{name}.ipynb", build.notebooks / f"{name}.failed.ipynb"
        if failed.exists() or not executed.exists() or not path.exists():
            broken.append(name)
            continue
        result = results.read_json(path)
        products = [
            {**product, "notebook": name, "revision": result["made"]["revision"]} for product in result["products"]
        ]
        lost = [product["file"] for product in products if not (build.figures / product["file"]).exists()]
        if lost:
            broken.append(name)
            note = f"{name}: {', '.join(lost)} is gone from {_shown(build.figures)}: run again with --forcerun {name}"
            failed.with_suffix(".txt").write_text(note + "\n")
            continue
        done.append((name, result["made"]["seconds"]))
        index += products
    if not broken:
        if profile == "laptop":
            _publish(build.figures, folder, index)
        _write_index(folder / "README.md", index, profile)
        results.write_json(folder / "run.json", {"profile": profile, "seconds": dict(done)})
    for name, seconds in done:
        print(f"  {name:<24}{seconds:>7.0f} s")
    for name in broken:
        failed = build.notebooks / f"{name}.failed.txt"
        print(failed.read_text().strip() if failed.exists() else f"{name}: not run", file=sys.stderr)
    where = f"figures and tables: {_shown(folder)}; executed notebooks: {_shown(build.notebooks)}"
    print(f"{profile}: {len(done)} of {len(done) + len(broken)} notebooks stand; {where}", flush=True)
    return 1 if broken else 0


def _publish(source, folder, index):
    """Copy the products of this run that changed, and nothing else."""
    for product in index:
        stem = Path(product["file"]).with_suffix("")
        for path in sorted(source.glob(f"{stem}.*")):
            target = folder / path.relative_to(source)
            if not (target.exists() and filecmp.cmp(path, target, shallow=False)):
                with results.atomic(target) as part:
                    shutil.copyfile(path, part)


_RENDERINGS = (("Markdown", "md"), ("CSV", "csv"), ("LaTeX", "tex"))


def _write_index(path, index, profile):
    kept = _earlier(path, {Path(product["file"]).stem for product in index})
    lines = [
        "# Figures and tables",
        "",
        f"Made by `./run_all.sh {profile}`; written by that command, not by hand. Each entry names its data.",
        "",
    ]
    for product in index:
        file = Path(product["file"])
        stem = file.stem
        lines += [f"## {stem}", "", product["shows"], ""]
        if product["file"].endswith(".png"):
            lines += [f"![{stem}]({product['file']})", ""]
        else:
            lines += [", ".join(f"[{kind}]({file.with_suffix('.' + suffix)})" for kind, suffix in _RENDERINGS), ""]
        lines += [f"Data: {product['data']}. Notebook: `{product['notebook']}`. Revision: {product['revision']}.", ""]
    with results.atomic(path) as part:
        part.write_text("\n".join([*lines, *kept]))


def _earlier(path, made):
    """Entries of an older index of what this run did not make and is still there: figures of a user's real frames."""
    if not path.exists():
        return []
    kept = []
    for entry in re.split(r"^(?=## )", path.read_text(), flags=re.MULTILINE)[1:]:
        stem = entry.splitlines()[0].removeprefix("## ")
        links = re.findall(r"\]\(([^)]+)\)", entry)
        if stem not in made and links and all((path.parent / link).exists() for link in links):
            kept.append(entry.rstrip("\n") + "\n")
    return kept


def main(argv=None):
    """Entry point of ``python -m crcore.notebooks``."""
    parser = argparse.ArgumentParser(prog="python -m crcore.notebooks")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="execute one notebook")
    run.add_argument("name")
    run.add_argument("profile")
    for name in ("check", "finish"):
        commands.add_parser(name).add_argument("profile")
    args = parser.parse_args(argv)
    try:
        if args.command == "run":
            return execute(args.name, args.profile)
        load_profile(args.profile)
        user_data()
        if args.command == "check" and args.profile == "paper":
            from crcore import fetched  # with it come detectors, which no other call should wait for

            print(*fetched.report(), sep="\n")
        return finish(args.profile) if args.command == "finish" else 0
    except InputError as error:
        print(f"crcore: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""Write docs/recipe-keys.md: every key of a recipe, the file that declares it and the files that read it.

    python docs/recipe_keys.py

Declarations come from the stages' pydantic models, readers from the source text: attribute accesses whose
object has a known annotation, or else a dump of all keys at once. Nothing is imported but the recipe's
models.
"""

from __future__ import annotations

import ast
import re
import sys
import types
import typing
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "recipe-keys.md"
TOP = "recipe"
"""Heading of the keys beside `stages`."""
PACKAGES = ("cpt", "tokenizer_tools", "merging", "evals")

sys.path.insert(0, str(ROOT))

Types = frozenset[str]
"""Names of the classes that a value may have; containers count as what they contain."""
NONE: Types = frozenset()


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    Attributes:
        path: Dotted path, with the kind of a union's variant in brackets, "schedule[wsd].decay_share".
        model: Name of the class that declares it.
        module: Dotted name of the module that declares it.
        field: Its declaration: type, default, description.
    """

    path: str
    name: str
    model: str
    module: str
    field: FieldInfo


def all_keys() -> list[Key]:
    """Return the top-level keys and every key of every stage, in the order of the models' fields."""
    from cpt.recipe.schema import Recipe, RecipeFile
    from cpt.stages import stages

    found: dict[str, Key] = {}
    for (
        name,
        field,
    ) in RecipeFile.model_fields.items():  # what others read is the checked recipe, and its steps
        attribute = "steps" if name == "stages" else name
        found[name] = Key(f"{TOP}.{name}", attribute, Recipe.__name__, RecipeFile.__module__, field)
    for kind, stage in stages().items():
        for key in _keys(stage.Config, kind, set()):
            found.setdefault(key.path, key)
    return list(found.values())


def _keys(model: type[BaseModel], path: str, seen: set[type]) -> Iterator[Key]:
    """Yield the keys of a model and of the models in it, each model once per stage."""
    for name, field in model.model_fields.items():
        owner = next(each for each in reversed(model.__mro__) if name in getattr(each, "__annotations__", {}))
        here = f"{path}.{field.alias or name}"
        yield Key(here, name, owner.__name__, owner.__module__, field)
        inner = [each for each in _models(field.annotation) if each not in seen]
        seen.update(inner)
        for each in inner:
            variant = f"[{_kind(each)}]" if len(inner) > 1 and _kind(each) else ""
            yield from _keys(each, here + variant, seen)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the pydantic models that an annotation names, through unions, containers and metadata."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    found = [model for part in typing.get_args(annotation) for model in _models(part)]
    return list(dict.fromkeys(found))


def _kind(model: type[BaseModel]) -> str:
    for name in CHOOSERS:
        field = model.model_fields.get(name)
        if field is not None and typing.get_origin(field.annotation) is typing.Literal:
            return str(typing.get_args(field.annotation)[0])
    return ""


class Source:
    """The packages' syntax trees, with the annotated attributes of every class."""

    def __init__(self) -> None:
        files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
        self.trees = {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in files}
        self.attributes: dict[str, dict[str, str]] = defaultdict(dict)
        self.bases: dict[str, list[str]] = {}
        self.aliases: dict[str, str] = {}
        self.returns: dict[str, str] = {}
        for tree in self.trees.values():
            self._read(tree)

    def _read(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self.bases[node.name] = [ast.unparse(base) for base in node.bases]
                for item in node.body:
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                        self.attributes[node.name][item.target.id] = ast.unparse(item.annotation)
                    if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                        self.attributes[node.name] |= _set_from_parameters(item)
                    elif isinstance(item, ast.FunctionDef) and item.returns is not None:
                        self.attributes[node.name].setdefault(item.name, ast.unparse(item.returns))
            elif isinstance(node, ast.FunctionDef) and node.returns is not None:
                self.returns.setdefault(node.name, ast.unparse(node.returns))
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if name[:1].isupper() and not isinstance(node.value, ast.Constant):
                    self.aliases.setdefault(name, ast.unparse(node.value))

    def classes(self, annotation: str, depth: int = 0) -> Types:
        """Return the classes that an annotation names, through aliases."""
        found: set[str] = set()
        for word in re.findall(r"\b[A-Z]\w+", annotation):
            if word in self.bases:
                found.add(word)
            if word in self.aliases and depth < 4:  # a class elsewhere may have the alias's name
                found |= self.classes(self.aliases[word], depth + 1)
        return frozenset(found)

    def attribute(self, owners: Types, name: str) -> Types:
        """Return the classes of an attribute of values of some classes, inherited ones included."""
        found: set[str] = set()
        for owner in self.with_bases(owners):
            if name in self.attributes[owner]:
                found |= self.classes(self.attributes[owner][name])
        return frozenset(found)

    def with_bases(self, owners: Types) -> Types:
        """Return classes and all classes that they inherit from."""
        found, left = set(), list(owners)
        while left:
            owner = left.pop()
            if owner not in found:
                found.add(owner)
                left += [base.split("[")[0] for base in self.bases.get(owner, [])]
        return frozenset(found)


def _set_from_parameters(init: ast.FunctionDef) -> dict[str, str]:
    """Return the annotations of attributes that a constructor sets to its parameters."""
    given = {each.arg: ast.unparse(each.annotation) for each in init.args.args if each.annotation is not None}
    found = {}
    for node in ast.walk(init):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = (
                zip(target.elts, value.elts, strict=False)
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
                else [(target, value)]
            )
            for one, other in pairs:
                if isinstance(one, ast.Attribute) and isinstance(other, ast.Name) and other.id in given:
                    found[one.attr] = given[other.id]
    return found


MAPPING_METHODS = frozenset({"items", "keys", "values", "get"})
KIND = "kind"
"""Key by which pydantic itself chooses a variant."""
CHOOSERS = (KIND, "method", "action")
"""Keys whose one value names the variant that they stand in."""
DUMP = "model_dump"
"""Method that reads every key of a model, whatever their names."""


class Readers(ast.NodeVisitor):
    """Collects the attributes that one file reads: (class, attribute)."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.found: set[tuple[str, str]] = set()
        self._scopes: list[dict[str, Types]] = [{}]
        self._class: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._class.append(node.name)
        self.generic_visit(node)
        self._class.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        scope: dict[str, Types] = {}
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for number, argument in enumerate(arguments):
            if argument.annotation is not None:
                scope[argument.arg] = self.source.classes(ast.unparse(argument.annotation))
            elif number == 0 and self._class and argument.arg in {"self", "cls"}:
                scope[argument.arg] = frozenset({self._class[-1]})
        self._scopes.append(scope)
        self._assignments(node)
        self.generic_visit(node)
        self._scopes.pop()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        for owner in self.source.with_bases(self._of(node.value)):
            self.found.add((owner, node.attr))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if (
            isinstance(node.func, ast.Attribute) and node.func.attr in MAPPING_METHODS
        ):  # `items` may be a key too
            for part in (node.func.value, *node.args, *node.keywords):
                self.visit(part)
            return
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1:
            name = node.args[1]
            if isinstance(name, ast.Constant):
                for owner in self.source.with_bases(self._of(node.args[0])):
                    self.found.add((owner, str(name.value)))
        self.generic_visit(node)

    def _assignments(self, function: ast.FunctionDef) -> None:
        """Note the classes of local names, in two rounds: a later line may feed an earlier loop."""
        scope = self._scopes[-1]
        for _ in range(2):
            for node in ast.walk(function):
                pairs: list[tuple[ast.expr, ast.expr]] = []
                if isinstance(node, ast.Assign):
                    for target in node.targets:
                        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                            pairs += zip(target.elts, node.value.elts, strict=False)
                        else:
                            pairs.append((target, node.value))
                elif isinstance(node, (ast.For, ast.comprehension)):
                    pairs.append((node.target, node.iter))
                elif isinstance(node, ast.NamedExpr):
                    pairs.append((node.target, node.value))
                for target, value in pairs:
                    names = target.elts if isinstance(target, ast.Tuple) else [target]
                    for name in names:
                        if isinstance(name, ast.Name) and (classes := self._of(value)):
                            scope[name.id] = scope.get(name.id, NONE) | classes

    def _of(self, node: ast.expr) -> Types:
        """Return the classes that an expression may have."""
        if isinstance(node, ast.Name):
            for scope in reversed(self._scopes):
                if node.id in scope:
                    return scope[node.id]
            return NONE
        if isinstance(node, ast.Attribute):
            return self.source.attribute(self._of(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            return self._of(node.value)
        if isinstance(node, ast.Call):
            return self._of_call(node)
        if isinstance(node, ast.BoolOp):
            return frozenset().union(*(self._of(value) for value in node.values))
        if isinstance(node, ast.IfExp):
            return self._of(node.body) | self._of(node.orelse)
        if isinstance(node, (ast.GeneratorExp, ast.ListComp)):
            return self._of(node.elt)
        if isinstance(node, (ast.Tuple, ast.List)):
            return frozenset().union(*(self._of(value) for value in node.elts))
        if isinstance(node, ast.Starred):
            return self._of(node.value)
        return NONE

    def _of_call(self, node: ast.Call) -> Types:
        if isinstance(node.func, ast.Name):
            name = node.func.id
            if name in self.source.bases:
                return frozenset({name})
            if name in {"enumerate", "zip", "list", "tuple", "sorted", "iter", "reversed", "replace"}:
                return frozenset().union(*(self._of(argument) for argument in node.args))
            return self.source.classes(self.source.returns.get(name, ""))
        if isinstance(node.func, ast.Attribute):
            owner = self._of(node.func.value)
            if node.func.attr in {"values", "items", "get", "model_copy"}:
                return owner
            return self.source.attribute(owner, node.func.attr)
        return NONE


def readers(source: Source) -> Mapping[tuple[str, str], list[str]]:
    """Return the files that read each attribute, by class and attribute."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file, tree in source.trees.items():
        visitor = Readers(source)
        visitor.visit(tree)
        for each in visitor.found:
            found[each].append(file)
    return found


def readers_of(key: Key, by_attribute: Mapping[tuple[str, str], list[str]], source: Source) -> list[str]:
    """Return the files that read a key: by its name, else with all keys of its model."""
    named = by_attribute.get((key.model, key.name), [])
    if named or key.name == KIND:
        return named
    # a private base's name is not unique, and pydantic's own stands for every model
    bases = source.with_bases(frozenset({key.model})) - {BaseModel.__name__}
    models = [name for name in bases if not name.startswith("_")]
    return sorted({file for model in models for file in by_attribute.get((model, DUMP), [])})


def page() -> str:
    """Return the page in Markdown."""
    source = Source()
    by_attribute = readers(source)
    lines = [
        "# Recipe keys",
        "",
        "Where each key of a recipe is declared, and which files read it. Written by",
        "`python docs/recipe_keys.py`; a test checks that it is up to date. Variants stand in brackets:",
        "`schedule[wsd]`. What several keys hold (a source of text) is listed at the first of them.",
    ]
    stage = ""
    for key in all_keys():
        if (kind := key.path.split(".")[0]) != stage:
            stage = kind
            lines += ["", f"## {stage}", "", "| Key | Declared in | Read in |", "|---|---|---|"]
        declared = key.module.replace(".", "/") + ".py"
        if not (ROOT / declared).is_file():
            declared = key.module.replace(".", "/") + "/__init__.py"
        files = readers_of(key, by_attribute, source)
        read = [_link(file) for file in files if file != declared]
        cells = ["same file"] * (declared in files) + read
        if not cells and key.name == KIND:
            cells = ["chooses the variant"]
        lines.append(f"| `{key.path.split('.', 1)[1]}` | {_link(declared)} | {', '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _link(file: str) -> str:
    return f"[{file}](../{file})"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE}: {len(all_keys())} keys")

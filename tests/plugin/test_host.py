"""Plugins from outside: found by metadata, called guarded, named when they fail."""

import json
import re
import sys
import textwrap

import pytest

GOOD = """
from attrs import frozen
from forgecore.plugin import *

@frozen
class View:
    name: str
"""


@pytest.fixture
def install(project, monkeypatch):
    """Make a distribution with a plugin module and templates, importable by the project."""
    project.write(
        "schema/product.toml",
        '[resource]\nname = "Product"\n[fields]\ntitle = { type = "string" }\n',
    )

    def make(name, code, templates=None, distribution=None, version="1.2.3"):
        distribution = distribution or f"forgecore-{name}"
        package = f"forgecore_{distribution.replace('-', '_')}"
        project.write(f"{package}/__init__.py", "")
        project.write(
            f"{package}/plugin.py", GOOD + textwrap.dedent(code).replace("PACKAGE", package)
        )
        for path, text in (templates or {}).items():
            project.write(f"{package}/{path}", textwrap.dedent(text))
        info = f"{distribution.replace('-', '_')}-{version}.dist-info"
        project.write(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        project.write(f"{info}/entry_points.txt", f"[forgecore]\n{name} = {package}.plugin\n")
        return package

    def use(*names):
        listed = ", ".join(f'"{name}"' for name in names)
        project.write("forge.toml", f'[project]\nname = "shop"\nplugins = [{listed}]\n')

    make.use = use
    make.project = project
    return make


def failed(install, *names):
    install.use(*names)
    done = install.project.run("build")
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert not (install.project.folder / "shop").exists()
    return done.stderr


def test_only_plugins_that_are_named_are_imported(install):
    install("quiet", "raise RuntimeError('imported')\n")
    install.use()

    install.project.ok("build")


def test_left_out_means_every_installed_one(install):
    install("loud", "raise RuntimeError('imported')\n")
    install.project.write("forge.toml", '[project]\nname = "shop"\n')

    done = install.project.run("build")

    assert (
        "plugin `loud` (forgecore-loud 1.2.3) cannot be imported: RuntimeError: imported"
        in done.stderr
    )


def test_a_hookimpl_that_raises_is_named_and_the_others_survive(install):
    install(
        "one",
        """
        @hookimpl
        def forgecore_check(ctx):
            raise KeyError("x")
        """,
    )
    install(
        "two",
        """
        @hookimpl
        def forgecore_check(ctx):
            yield Diagnostic("two/bad", ctx.span(ctx.resources[0], "name"), "two looked")
        """,
    )

    said = failed(install, "one", "two")

    assert "plugin `one` (forgecore-one 1.2.3): forgecore_check raised KeyError: 'x' (at " in said
    assert "schema/product.toml:2:8: error[two/bad]: two looked" in said


@pytest.mark.parametrize(
    ("hook", "answer"),
    [("check", "['x']"), ("render", "[3]"), ("fragments", "object()"), ("transform", "'ir'"),
     ("scaffold", "[None, 3]"), ("config", "3"), ("options", "[3]"), ("field_types", "[3]")],
)  # fmt: skip
def test_an_answer_of_the_wrong_type_is_named(install, hook, answer):
    install("bad", f"@hookimpl\ndef forgecore_{hook}(ctx):\n    return {answer}\n")

    said = failed(install, "bad")

    assert f"plugin `bad` (forgecore-bad 1.2.3): forgecore_{hook} gave " in said


def test_a_misspelt_hookimpl_is_an_error(install):
    install("typo", "@hookimpl\ndef forgecore_chek(ctx):\n    return ()\n")

    said = failed(install, "typo")

    assert "`forgecore_chek` is a hookimpl of no hookspec; did you mean `forgecore_check`?" in said


def test_a_function_without_the_mark_is_an_error(install):
    install("bare", "def forgecore_check(ctx):\n    return ()\n")

    assert "`forgecore_check` lacks @hookimpl" in failed(install, "bare")


def test_a_hookimpl_with_other_arguments_is_an_error(install):
    install("args", "@hookimpl\ndef forgecore_check(context):\n    return ()\n")

    assert "plugin `args` (forgecore-args 1.2.3)" in failed(install, "args")


def test_two_plugins_of_one_name_are_an_error(install):
    install("same", "")
    install("same", "", distribution="forgecore-fork", version="9")

    said = failed(install, "same")

    assert "two plugins are called `same`: forgecore-fork 9 and forgecore-same 1.2.3" in said


def test_a_cycle_of_orders_is_an_error(install):
    install("a", 'forgecore_order = Order(before=("b",))\n')
    install("b", 'forgecore_order = Order(before=("c",), after=("absent",))\n')
    install("c", 'forgecore_order = Order(before=("a",))\n')

    said = failed(install, "a", "b", "c")

    assert "error[plugin-order]" in said
    assert all(name in said for name in ("a", "b", "c", " -> "))


DECORATES = """
@hookimpl
def forgecore_fragments(ctx):
    yield Fragment(slot="{slot}", resource="Product", template="PACKAGE:x.mako", view=View("v"))
"""


def test_fragments_stand_in_the_declared_order(install):
    code = DECORATES.format(slot="actions.module")
    install("b", code, {"x.mako": "B = 1\n"})
    install(
        "a",
        'forgecore_order = Order(after=("b",))\n' + code,
        {"x.mako": "A = ${view.name | n,repr}\n"},
    )
    install.use("a", "b")

    install.project.ok("build")

    text = install.project.read("shop/gen/actions/product.py")
    assert 'B = 1\nA = "v"\n' in text


@pytest.mark.parametrize(
    ("slot", "template", "said"),
    [
        ("actions.module", "x = (\n", "line 1 of the fragment is no Python"),
        ("actions.module", "a = 1\n% if vew:\nb = 2\n% endif\n", "x.mako:2: `vew` is no name"),
        ("actions.module", "ok = 1\n${rows}\n", "x.mako:2: `rows` is no name"),
        ("actions.module", "ok = 1\n## gone\n", "x.mako:2: Mako swallows"),
        ("actions.module", "a = 1 + \\\n    2\n", "x.mako:1: Mako joins"),
        ("actions.module", '<%def name="body()">x</%def>\n', "called `body`"),
        ("actions.module", "<%include file='y'/>\n", "include lose indentation"),
        ("actions.module", "a = ${None}\n", "NoneType is no text"),
        ("actions.module", "ok = 1\n${view.nothing}\n", "x.mako:2: AttributeError"),
        ("actions.module", "${'a' + chr(10) + 'b'}\n", "several lines"),
        ("actions.module", "% for x in:\n% endfor\n", "x.mako:1"),
        ("actions.method.decorators", "@\n", "is no Python"),
        ("actions.create.ctes", "other AS (SELECT 1)\n", "the arm `other` must be called `bad`"),
        ("actions.create.ctes", "SELECT 1\n", "an arm is written `name AS (...)`"),
        ("actions.create.ctes", "bad AS (SELECT 1\n", "leaves a parenthesis or quote open"),
        ("actions.create.ctes", "bad AS (SELECT 1),\n", "nothing, before or behind a comma"),
        ("actions.create.ctes", "bad AS (SELECT 1) WHERE 1\n", "an arm is written `name AS (...)`"),
        ("actions.create.ctes", "bad AS (SELECT 1) -- c\n", "a comment at the fragment's end"),
        ("actions.create.ctes", "bad AS (\nSELECT 5 % 2)\n", "line 2 of the fragment has a `%`"),
        ("actions.create.ctes", "bad AS (SELECT %(idd)s)\n", "params; did you mean `id`?"),
        ("actions.update.ctes", "bad AS (SELECT %(title)s)\n", "uses `%(title)s`, which is none"),
        ("actions.method.decorators", "x = 1\n", "the fragment is more than decorators"),
        ("actions.nowhere", "x\n", "nobody declares the slot `actions.nowhere`"),
    ],
)
def test_a_bad_fragment_is_named_with_plugin_template_and_line(install, slot, template, said):
    install("bad", DECORATES.format(slot=slot), {"x.mako": template})

    told = failed(install, "bad")

    assert "plugin `bad` (forgecore-bad 1.2.3)" in told
    assert said in told


def test_a_parameter_that_hides_a_field_is_an_error(install):
    install(
        "bad",
        """
        @hookimpl
        def forgecore_fragments(ctx):
            yield Fragment(slot="actions.create.ctes", template="PACKAGE:x.mako", params={"title": "1"})
        """,
        {"x.mako": "bad AS (SELECT 1)\n"},
    )

    assert "its parameter `title` would hide Product's own" in failed(install, "bad")


def test_a_parameter_that_is_no_expression_is_named_with_its_plugin(install):
    install(
        "bad",
        """
        @hookimpl
        def forgecore_fragments(ctx):
            yield Fragment(slot="actions.create.ctes", template="PACKAGE:x.mako", params={"x": "f("})
        """,
        {"x.mako": "bad AS (SELECT 1)\n"},
    )

    told = failed(install, "bad")

    assert "plugin `bad` (forgecore-bad 1.2.3): its parameter `x` is no Python expression" in told


def test_quotes_and_comments_of_an_arm_are_not_read_as_sql(install):
    install(
        "fine",
        """
        @hookimpl
        def forgecore_fragments(ctx):
            yield Fragment(slot="actions.create.ctes", template="PACKAGE:x.mako")
        """,
        {"x.mako": "fine (a) AS (\n-- it's (one\nSELECT ')''(' || '%%' /* ( */ FROM new\n)\n"},
    )
    install.use("fine")

    install.project.ok("build")

    assert "fine (a) AS (" in install.project.read("shop/gen/actions/product.py")


def test_a_missing_template_is_named(install):
    install("bad", DECORATES.format(slot="actions.module"))

    assert "forgecore_forgecore_bad:x.mako: there is no such template" in failed(install, "bad")


def test_a_fragment_for_an_absent_plugin_may_be_optional(install):
    install("kind", """
        @hookimpl
        def forgecore_fragments(ctx):
            yield Fragment(slot="others.slot", template="PACKAGE:x.mako", optional=True)
        """)  # fmt: skip
    install.use("kind")

    install.project.ok("build")


def test_an_arm_comes_with_its_parameters_and_imports(install):
    install(
        "audit",
        """
        @hookimpl
        def forgecore_fragments(ctx):
            yield Fragment(
                slot="actions.update.ctes", resource="Product", template="PACKAGE:x.mako",
                imports=(Import("forgecore.runtime", "current_user"),),
                params={"audit_user": "current_user()"},
            )
        """,
        {"x.mako": "${arm}_log AS (\n    SELECT '{}' || %(audit_user)s FROM new\n)\n"},
    )
    install.use("audit")

    install.project.ok("build")

    text = install.project.read("shop/gen/actions/product.py")
    assert "), audit_log AS (\n    SELECT '{{}}' || %(audit_user)s FROM new\n), record AS (" in text
    assert 'changes | {"audit_user": current_user()}' in text
    assert "    current_user,\n" in text


@pytest.mark.parametrize(
    "path",
    [
        *("../x.py", "/etc/x.py", "gen/../../x.py", "resources/x.py", "gen/a b.py", "x.py"),
        *("gen//x.py", "gen/./x.py", f"gen/{'x' * 300}.py"),
    ],
)
def test_a_plugin_writes_under_gen_alone(install, path):
    install("bad", f"""
        @hookimpl
        def forgecore_render(ctx):
            yield GeneratedFile(path={path!r}, template="PACKAGE:x.mako", view=None)
        """, {"x.mako": "x = 1\n"})  # fmt: skip

    assert f"error[bad-path]: plugin `bad` (forgecore-bad 1.2.3) may not write `{path}`" in failed(
        install, "bad"
    )


def test_two_plugins_that_write_one_file_are_both_named(install):
    code = """
        @hookimpl
        def forgecore_render(ctx):
            yield GeneratedFile(path="gen/x/PATH.py", template="PACKAGE:x.mako", view=None)
        """
    install("one", code.replace("PATH", "a"), {"x.mako": "x = 1\n"})
    install("two", code.replace("PATH", "A"), {"x.mako": "x = 1\n"})

    said = failed(install, "one", "two")

    assert "is written by plugin `one` (forgecore-one 1.2.3) and by plugin `two`" in said


def test_a_plugin_adds_options_types_sections_and_transforms(install):
    install(
        "rich",
        """
        from attrs import evolve, field, validators

        @frozen(kw_only=True)
        class Section:
            limit: int = field(default=1, validator=validators.ge(1))

        @frozen(kw_only=True)
        class Slug:
            slug_from: str

        @frozen(kw_only=True)
        class Search:
            language: str = "english"

        @hookimpl
        def forgecore_config(ctx):
            return Section

        @hookimpl
        def forgecore_options(ctx):
            return [FieldOptions(Slug), ResourceOptions("search", Search)]

        @hookimpl
        def forgecore_field_types(ctx):
            yield FieldType(
                name="color",
                python=lambda field: Code("str"),
                sql=lambda field: "text",
                rule=lambda field: Code("rules.text(pattern='#[0-9a-f]{6}')", (Import("forgecore.runtime", "rules"),)),
                value=lambda field, value: value,
                check=lambda field, column: f"{column} ~ '^#'",
            )

        @hookimpl
        def forgecore_check(ctx):
            for resource in ctx.resources:
                for field in resource.fields:
                    options = field.options(Slug)
                    if options and options.slug_from == "nowhere":
                        yield Diagnostic("rich/slug", ctx.span(options, "slug_from"), "no such field")
                search = resource.options(Search)
                if search and search.language not in ("english", "german"):
                    yield Diagnostic("rich/search", ctx.span(search, "language"), f"limit {ctx.config(Section).limit}")

        @hookimpl
        def forgecore_transform(ctx):
            (product,) = ctx.resources
            (title, *rest) = product.fields
            extra = evolve(title, name="title_too")
            return evolve(ctx.ir, resources=(evolve(product, fields=(*product.fields, extra)),))
        """,
    )
    install.use("rich")
    install.project.write(
        "schema/product.toml",
        """
[resource]
name = "Product"
[fields]
title = { type = "string", slug_from = "nowhere" }
tint = { type = "color", default = "#00ff00" }
[search]
language = "klingon"
""",
    )
    config = install.project.read("forge.toml")
    install.project.write("forge.toml", config + "[rich]\nlimit = 4\n")

    said = install.project.run("build").stderr
    assert "schema/product.toml:5:40: error[rich/slug]: no such field" in said
    assert "schema/product.toml:8:12: error[rich/search]: limit 4" in said

    text = install.project.read("schema/product.toml")
    install.project.write(
        "schema/product.toml", text.replace("nowhere", "title").replace("klingon", "german")
    )
    install.project.ok("build")
    models = install.project.read("shop/gen/models/product.py")
    assert "title_too: str | None" in models
    assert 'tint: str = "#00ff00"' in models
    assert "tint ~ '^#'" in install.project.read("shop/gen/schema.sql")
    install.project.write(
        "schema/product.toml", text.replace("#00ff00", "green").replace("nowhere", "x")
    )
    assert "the default of `tint` must match" in install.project.run("build").stderr


def test_a_plugins_commands_are_found(install):
    install("cmd", """
        import click

        @hookimpl
        def forgecore_commands(ctx):
            @click.command("greet")
            def greet():
                click.echo(f"hello from {ctx.project.name}")
            yield greet
        """)  # fmt: skip
    install.use("cmd")

    assert install.project.ok("greet") == "hello from shop\n"
    assert "greet" in install.project.ok("--help")
    assert install.project.run("nothing-like-it").returncode == 2


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["gen/x/a.py", "gen/x/a.py"], "`gen/x/a.py` is written by plugin `one`"),
        (["gen/x", "gen/x/a.py"], "stands below `gen/x`, which is a file of plugin `one`"),
        (["gen/models"], "stands below `gen/models`, which is a file of plugin `one`"),
    ],
)
def test_a_plugin_that_is_in_its_own_way_or_in_the_core_s_is_told(install, paths, said):
    install("one", f"""
        @hookimpl
        def forgecore_render(ctx):
            for path in {paths!r}:
                yield GeneratedFile(path=path, template="PACKAGE:x.mako", view=None)
        """, {"x.mako": "x = 1\n"})  # fmt: skip

    assert said in failed(install, "one")


@pytest.mark.parametrize(
    ("hook", "answer"),
    [
        (
            "render",
            "GeneratedFile(path=__import__('pathlib').Path('gen/x.py'), template='a:b', view=1)",
        ),
        ("render", "GeneratedFile(path='gen/x.py', template=None, view=1)"),
        ("render", "GeneratedFile(path='gen/x.py', template='a:b', view=1, imports=['json'])"),
        ("render", "GeneratedFile(path='gen/x.py', template='a:b', view=1, imports=[Import(3)])"),
        ("render", "GeneratedFile(path='gen/x.py', template='a:b', view=1, slots=['x'])"),
        ("render", "Slot(name='x', language='cobol', doc='')"),
        ("fragments", "Fragment(slot=None, template='a:b')"),
        ("fragments", "Fragment(slot='x', template='a:b', params={'x': 3})"),
        ("fragments", "Fragment(slot='x', template='a:b', resource=ctx.resources[0])"),
        ("scaffold", "ScaffoldFile(path=3, template='a:b', view=1)"),
        ("check", "Diagnostic('bad/x', 'schema/a.toml:1', 'text')"),
        ("check", "Diagnostic('bad/x', None, 3)"),
        ("transform", "__import__('attrs').evolve(ctx.ir, resources=('Product',))"),
        ("options", "ResourceOptions(3, View)"),
        ("options", "FieldOptions('View')"),
        ("field_types", "FieldType(name='x', python=1, sql=1, rule=1, value=1)"),
        ("migrations", "Migration(number='1', name='x', sql='')"),
    ],
)
def test_what_an_answer_holds_is_checked_where_the_plugin_made_it(install, hook, answer):
    install("bad", f"@hookimpl\ndef forgecore_{hook}(ctx):\n    return {answer}\n")
    install.use("bad")

    command = ["migrate", "up"] if hook == "migrations" else ["build"]
    done = install.project.run(*command)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(
        rf"plugin `bad` \(forgecore-bad 1.2.3\): forgecore_{hook} raised \w+: .* "
        r"\(at \S+/forgecore_forgecore_bad/plugin.py:\d+\)",
        done.stderr,
        re.DOTALL,
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("class Plain: pass\nANSWER = Plain", "gave Plain, which is no attrs class"),
        (
            "@frozen\nclass Odd:\n    x: 'Missing'\nANSWER = Odd",
            "gave Odd, whose annotations raise",
        ),
    ],
)
@pytest.mark.parametrize(
    ("hook", "answer"),
    [("config", "ANSWER"), ("options", "FieldOptions(ANSWER)"),
     ("options", "ResourceOptions('x', ANSWER)")],
)  # fmt: skip
def test_a_class_of_options_that_cannot_be_read_is_told(install, hook, answer, code, said):
    install("bad", f"{code}\n@hookimpl\ndef forgecore_{hook}(ctx):\n    return {answer}\n")

    assert f"plugin `bad` (forgecore-bad 1.2.3): forgecore_{hook} {said}" in failed(install, "bad")


@pytest.mark.parametrize("order", ["'jobs'", "Order(after='jobs')", "Order(before=(3,))"])
def test_an_order_that_is_none_is_told(install, order):
    install("bad", f"forgecore_order = {order}\n")

    assert "plugin `bad` (forgecore-bad 1.2.3)" in failed(install, "bad")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ResourceOptions('extra', View)", "the table `extra` is declared by plugin `a`"),
        ("FieldOptions(View)", "the key `name` is declared by plugin `a`"),
        ("ResourceOptions('fields', View)", "the table `fields` is declared by the core"),
    ],
)
def test_what_two_declare_is_nobody_s(install, code, said):
    for name in ("a", "b"):
        install(name, f"@hookimpl\ndef forgecore_options(ctx):\n    return {code}\n")

    told = failed(install, "a", "b")

    assert f"error[duplicate]: {said}" in told
    assert "and by plugin `b` (forgecore-b 1.2.3)" in told


def test_a_section_or_type_of_the_core_stays_the_core_s(install):
    section = "@hookimpl\ndef forgecore_config(ctx):\n    return View\n"
    install("database", section)
    install("types", TYPE.format(change="name='string'"))

    told = failed(install, "database", "types")

    assert "the section `database` is declared by the core and by plugin `database`" in told
    assert "the field type `string` is declared by plugin `data` (forgecore" in told


TYPE = """
@hookimpl
def forgecore_field_types(ctx):
    given = dict(
        name="color", python=lambda field: Code("str"), sql=lambda field: "text",
        rule=lambda field: Code("rules.text()", (Import("forgecore.runtime", "rules"),)),
        value=lambda field, value: value, keys=frozenset({{"min", "max"}}),
    )
    yield FieldType(**given | dict({change}))
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("python=lambda field: 1 / 0", "`python` raised ZeroDivisionError"),
        ("python=lambda field: 'str'", "`python` gave str"),
        ("sql=lambda field: None", "`sql` gave NoneType"),
        ("check=lambda field, column: field.nothing", "`check` raised AttributeError"),
        ("rule=lambda field: Code('rules.missing()')", "its rule raised NameError"),
        ("rule=lambda field: Code('lambda value: 1 / 0')", "its rule raised ZeroDivisionError"),
        ("rule=lambda field: Code('(')", "its rule raised SyntaxError"),
        ("value=lambda field, value: value.nothing", "`value` raised AttributeError"),
        ("value=lambda field, value: object(), rule=lambda field: Code('lambda value: None')",
         "its values have no order"),
    ],
)  # fmt: skip
def test_a_field_type_that_fails_inside_names_its_plugin(install, change, said):
    install("bad", TYPE.format(change=change))
    install.project.write(
        "schema/product.toml",
        '[resource]\nname = "Product"\n[fields]\n'
        'tint = { type = "color", min = "a", max = "b", default = "a" }\n',
    )

    told = failed(install, "bad")

    assert f"plugin `bad` (forgecore-bad 1.2.3): field type `color`: {said}" in told


def test_a_name_that_an_import_of_a_plugin_would_hide_is_told_at_the_resource(install):
    install(
        "typing",
        """
        @hookimpl
        def forgecore_fragments(ctx):
            yield Fragment(
                slot="actions.module", template="PACKAGE:x.mako", imports=[Import("typing", "Product")]
            )
        """,
        {"x.mako": "x = 1\n"},
    )

    told = failed(install, "typing")

    assert (
        "schema/product.toml:2:8: error[name-collision]: in gen/actions/product.py `Product`"
        in told
    )


@pytest.mark.parametrize("package", ["json", "psycopg", "forgecore", "email.shop"])
def test_a_package_that_would_hide_a_module_is_told(install, package):
    install.project.write(
        "forge.toml", f'[project]\nname = "shop"\npackage = "{package}"\nplugins = []\n'
    )

    done = install.project.run("build")

    top = package.partition(".")[0]
    assert done.returncode == 1
    assert f"forge.toml:3:11: error[bad-name]: the package `{top}` would hide" in done.stderr


# --- plugins that do what nobody expects


def test_what_a_plugin_prints_is_no_output_of_the_build(install):
    install(
        "chatty",
        """
        print("imported")

        @hookimpl
        def forgecore_render(ctx):
            print("asked")
            yield GeneratedFile(path="gen/x.py", template="PACKAGE:x.mako", view=Loud("a"))

        class Loud(View):
            @property
            def text(self):
                print("read")
                return "1"
        """,
        {"x.mako": "X = ${view.text}\n"},
    )
    install.use("chatty")
    done = install.project.run("build", "--json")

    assert list(json.loads(done.stdout)) == ["diagnostics", "written", "removed", "files"]
    assert done.stderr.splitlines() == ["imported", "asked", "read"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ("while True: pass", "forgecore_render raised TookTooLong"),
        ("import time; time.sleep(60)", "forgecore_render raised TookTooLong"),
        (
            "try:\n                time.sleep(60)\n            except Exception: pass",
            "forgecore_render raised TookTooLong",
        ),
    ],
)
def test_a_plugin_that_does_not_come_back_is_named(install, body, where):
    install(
        "endless",
        f"""
        import time

        @hookimpl
        def forgecore_render(ctx):
            {body}
        """,
    )
    install.use("endless")
    config = install.project.read("forge.toml")
    install.project.write("forge.toml", config + 'plugin_timeout = "1s"\n')
    done = install.project.run("build", timeout=20)

    assert done.returncode == 1
    assert f"plugin `endless` (forgecore-endless 1.2.3): {where}" in done.stderr
    assert "it has not come back in 1 s ([project] plugin_timeout) (at " in done.stderr


def test_a_view_that_does_not_come_back_is_named(install):
    install(
        "endless",
        """
        class Endless(View):
            @property
            def text(self):
                while True: pass

        @hookimpl
        def forgecore_render(ctx):
            yield GeneratedFile(path="gen/x.py", template="PACKAGE:x.mako", view=Endless("a"))
        """,
        {"x.mako": "X = ${view.text}\n"},
    )
    install.use("endless")
    config = install.project.read("forge.toml")
    install.project.write("forge.toml", config + 'plugin_timeout = "1s"\n')
    done = install.project.run("build", timeout=20)

    assert done.returncode == 1
    assert "gen/x.py, of plugin `endless` (forgecore-endless 1.2.3): it has not" in done.stderr
    assert not (install.project.folder / "shop").exists()


@pytest.mark.parametrize("part", ["models", "models/deep"])
def test_a_link_in_gen_leads_nobody_out(install, tmp_path, part):
    install(
        "deep",
        """
        @hookimpl
        def forgecore_render(ctx):
            yield GeneratedFile(path="gen/models/deep/x.py", template="PACKAGE:x.mako", view=1)
        """,
        {"x.mako": "X = 1\n"},
    )
    install.use("deep")
    far = tmp_path / "far"
    (far / "deep").mkdir(parents=True)
    link = install.project.folder / "shop" / "gen" / part
    link.parent.mkdir(parents=True)
    link.symlink_to(far)
    done = install.project.run("build")

    assert done.returncode == 1
    assert f"shop/gen/{part} is no folder of its own: move it away" in done.stderr
    assert [path.name for path in far.rglob("*")] == ["deep"]


def test_what_a_library_took_for_stdout_leads_there_afterwards(capsys):
    """structlog and others keep what sys.stdout is when they are imported."""
    from datetime import timedelta

    from forgecore.plugin.border import guarded

    with guarded(timedelta(seconds=9)):
        kept = sys.stdout
        print("inside", file=kept)
    print("outside", file=kept)

    assert capsys.readouterr() == ("outside\n", "inside\n")


FRAGMENT = """
@hookimpl
def forgecore_fragments(ctx):
    yield Fragment(slot="SLOT", template="PACKAGE:x.mako", view=View("NAME"))
"""


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("CREATE = 1", "X = 1", "`CREATE` is defined by a fragment of plugin `one` (forgecore-one"),
        ("def list_query():\n    pass", "X = 1", "`list_query` is imported from"),
        ("X = 1", "class X:\n    pass", "(forgecore-one 1.2.3) and by plugin `two` (forgecore-two"),
        ("X = 1", "Y = 1", None),
        ("def f():\n    pass\n\n\ndef f():\n    pass", "Y = 1", None),
        ("X = 1", "def y():\n    CREATE = 1\n    return CREATE", None),
    ],
)
def test_a_fragment_that_takes_a_name_of_another_is_told(install, first, second, said):
    for name, text in (("one", first), ("two", second)):
        code = FRAGMENT.replace("SLOT", "actions.module").replace("NAME", name)
        install(name, code, {"x.mako": text + "\n"})
    if said is None:
        install.use("one", "two")
        install.project.ok("build")
    else:
        errors = failed(install, "one", "two")
        assert said in errors
        assert "schema/product.toml:2:8: error[name-collision]: in gen/actions/product.py" in errors


def test_a_slot_for_one_is_filled_by_one(install):
    install(
        "host",
        """
        @hookimpl
        def forgecore_render(ctx):
            slot = Slot(name="host.only", language="python", doc="For one.", exclusive=True)
            yield GeneratedFile(
                path="gen/x.py", template="PACKAGE:x.mako", view=1, slots=(slot,)
            )
        """,
        {"x.mako": '<%slot name="host.only"/>\n'},
    )
    for name in ("one", "two"):
        install(name, FRAGMENT.replace("SLOT", "host.only"), {"x.mako": f"{name} = 1\n"})
    install.use("host", "one")
    install.project.ok("build")
    install.use("host", "one", "two")
    done = install.project.run("build")

    assert done.returncode == 1
    assert "error[slot-conflict]: the slot `host.only` of gen/x.py is for one" in done.stderr
    assert "plugin `one` (forgecore-one 1.2.3) and by plugin `two` (forgecore-two" in done.stderr


def test_a_field_type_that_does_not_come_back_is_told_at_its_resource(install):
    install(
        "endless",
        """
        def endless(field, value):
            while True: pass

        @hookimpl
        def forgecore_field_types(ctx):
            yield FieldType(
                name="endless", python=lambda f: Code("str"), sql=lambda f: "text",
                rule=lambda f: Code("rules.text()", (Import("forgecore.runtime", "rules"),)),
                value=endless,
            )
        """,
    )
    install.use("endless")
    config = install.project.read("forge.toml")
    install.project.write("forge.toml", config + 'plugin_timeout = "1s"\n')
    install.project.write(
        "schema/product.toml",
        '[resource]\nname = "Product"\n[fields]\nx = { type = "endless", default = "a" }\n',
    )
    done = install.project.run("build", timeout=20)

    assert done.returncode == 1
    assert "schema/product.toml:2:8: error[plugin-failed]: a field type of Product" in done.stderr


def test_a_plugin_that_takes_stdout_for_itself_takes_no_stream_along(install):
    install(
        "taker",
        """
        import io, sys
        sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")

        @hookimpl
        def forgecore_check(ctx):
            yield Diagnostic("taker/x", None, "a warning", severity="warning")
        """,
    )
    install.use("taker")
    done = install.project.run("build")

    assert done.returncode == 0, done.stderr
    assert "a warning" in done.stderr


def test_options_that_hold_themselves_build(install):
    install(
        "tree",
        """
        @frozen
        class Tree:
            name: str = ""
            kids: "tuple[Tree, ...]" = ()

        @hookimpl
        def forgecore_options(ctx):
            yield ResourceOptions("tree", Tree)
        """,
    )
    install.use("tree")
    text = install.project.read("schema/product.toml") + '[[tree.kids]]\nname = "a"\n'
    install.project.write("schema/product.toml", text)
    install.project.ok("build")


def test_all_code_beside_a_plugin_in_a_shared_namespace_is_an_input(install):
    project = install.project
    for path, text in (
        ("company/thing/plugin.py", "from company.thing.text import *\n"),
        (
            "company/thing/text.py",
            GOOD + "@hookimpl\ndef forgecore_render(ctx):\n"
            "    yield GeneratedFile(path='gen/x.py', template='company.thing:x.mako', view=1)\n",
        ),
        ("company/thing/x.mako", "X = 1\n"),
        ("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1\n"),
        ("thing-1.0.dist-info/entry_points.txt", "[forgecore]\nthing = company.thing.plugin\n"),
    ):
        project.write(path, text)
    install.use("thing")
    project.ok("build")
    project.write("company/thing/x.mako", "X = 2\n")

    assert "wrote shop/gen/x.py" in project.ok("build")


def test_a_limit_around_a_plugin_goes_on():
    import signal
    from datetime import timedelta

    from forgecore.plugin.border import guarded

    before = signal.setitimer(signal.ITIMER_REAL, 50)
    try:
        with guarded(timedelta(seconds=5)):
            pass
        assert 40 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)


def test_a_command_of_the_core_stays_the_core_s(install):
    code = """
        import click

        @hookimpl
        def forgecore_commands(ctx):
            @click.command("NAME")
            def command():
                click.echo("ours")
            return (command,)
        """
    install("one", code.replace("NAME", "build"))
    install.use("one")
    done = install.project.run("nosuch")
    said = "error[duplicate]: the command `build` is declared by the core and by plugin `one`"
    assert said in done.stderr
    assert "ours" not in install.project.ok("build")

    install("one", code.replace("NAME", "both"))
    install("two", code.replace("NAME", "both"))
    install.use("one", "two")
    done = install.project.run("both")
    assert (
        "the command `both` is declared by plugin `one` (forgecore-one 1.2.3) and by" in done.stderr
    )
    assert done.stdout == "ours\n"


def test_what_the_formatter_cannot_read_is_of_a_template_and_a_plugin(install):
    install(
        "bad",
        """
        @hookimpl
        def forgecore_render(ctx):
            yield GeneratedFile(path="gen/x.py", template="PACKAGE:x.mako", view=1)
        """,
        {"x.mako": "X = 1\ndef (\n"},
    )
    said = failed(install, "bad")

    assert ":x.mako of plugin `bad` (forgecore-bad 1.2.3): ruff refuses the output" in said
    assert "2 | def (" in said


def test_who_fails_for_one_resource_says_for_which(install):
    install(
        "bad",
        """
        @hookimpl
        @each_resource
        def forgecore_check(ctx):
            raise KeyError("x")
        """,
    )
    said = failed(install, "bad")
    assert "forgecore_check for Product raised KeyError: 'x'" in said

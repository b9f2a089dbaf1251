"""Names of one's own in pictures."""

import re
from pathlib import Path

import pytest
from matplotlib.text import Text

from figures.pictures import draw
from kdprobe.cli import main
from kdprobe.errors import ConfigError, ResultError
from kdprobe.formats.renaming import names_for, read_names, renamed
from kdprobe.results import save_result
from tests.saved_results import cka_result, comparison_result, dropout_result


def test_names_are_replaced_wherever_they_stand() -> None:
    result = comparison_result()
    (made,) = renamed([result], {"plain": "no teacher"})
    assert made.facts["methods"] == ["no teacher", "kd", "dropkd"]
    assert {entry["other"] for entry in made.facts["differences"]} == {"no teacher"}
    assert result.facts["methods"][0] == "plain"
    assert all(made.arrays[key] is result.arrays[key] for key in result.arrays)


def test_pictures_show_the_given_names() -> None:
    axes = draw(cka_result(2, 2), names={"blocks.0": "first block"})
    texts = [text.get_text() for text in axes.findobj(Text)]  # type: ignore[attr-defined]
    assert "first block" in texts
    assert "blocks.0" not in texts


def test_a_name_that_is_nowhere_or_breaks_a_result_is_refused() -> None:
    with pytest.raises(ResultError, match=r"no layer, network, method or class is called 'block.0' there.*blocks\.0"):
        draw(cka_result(), names={"block.0": "x"})
    with pytest.raises(ResultError, match="the fact 'kind' must be 'feature' or 'logit'"):
        draw(dropout_result(), names={"feature": "Merkmale"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must hold a mapping of names to what they are called"),
        (None, "there is no file of names "),
        ("caf\udce9: 1", "cannot be read as a mapping of names "),
    ],
)
def test_files_of_names_are_read_or_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "names.yaml"
    path.write_text("blocks.11: block 12\nlayer4: 4\n")
    assert read_names(path) == {"blocks.11": "block 12", "layer4": "4"}
    path.unlink()
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=message):
        read_names(path)


def test_the_command_takes_names_for_all_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_result(cka_result(2, 2), tmp_path / "cka.npz", table="")
    save_result(comparison_result(), tmp_path / "comparison.npz", table="")
    (tmp_path / "names.yaml").write_text("plain: no teacher\nblocks.0: first\n")
    files = [str(tmp_path / name) for name in ("cka.npz", "comparison.npz")]
    main(["figures", *files, "--names", str(tmp_path / "names.yaml"), "--format", "svg", "--quiet"])
    assert (tmp_path / "cka.svg").exists()
    assert not main(["figures", files[1], "--names", str(tmp_path / "names.yaml"), "--format", "svg"])
    assert "names.yaml: no layer, network, method or class is called 'blocks.0' there" in capsys.readouterr().err
    (tmp_path / "names.yaml").write_text("plian: no teacher\nother: 1\n")
    with pytest.raises(SystemExit):
        main(["figures", files[1], "--names", str(tmp_path / "names.yaml"), "--format", "svg"])
    assert re.search("names nothing that is there: .* 'plian' there; did you mean 'plain'", capsys.readouterr().err)


def test_all_names_that_are_near_others_are_told(tmp_path: Path) -> None:
    path = tmp_path / "names.yaml"
    path.write_text("zzz: 1\nplian: no teacher\ndropkdd: ours\n")
    said = (
        f"{path} names nothing that is there: no layer, network, method or class is called 'plian' there; did you mean "
        "'plain'? Nor is one called 'dropkdd'; did you mean 'dropkd'?"
    )
    with pytest.raises(ResultError) as error:
        names_for(path, [comparison_result()])
    assert str(error.value) == said
    with pytest.raises(ResultError, match=r"'plian' there; did you mean 'plain'\? Nor is one called 'dropkdd'"):
        renamed([comparison_result()], read_names(path))
    path.write_text("zzz: 1\nyyy: 2\n")
    with pytest.raises(ResultError, match=r"is called 'zzz' there$"):
        names_for(path, [comparison_result()])


def test_tables_and_reports_take_them_too(tmp_path: Path) -> None:
    save_result(comparison_result(), tmp_path / "comparison.npz", table="")
    (tmp_path / "names.yaml").write_text("plain: no teacher\n")
    named = ["--names", str(tmp_path / "names.yaml"), "--quiet"]
    for command, out in (("table", tmp_path / "t.tex"), ("report", tmp_path / "r.html")):
        assert not main([command, str(tmp_path / "comparison.npz"), "--out", str(out), *named])
        text = out.read_text(encoding="utf-8")
        assert "no teacher" in text
        assert "minus plain" not in text

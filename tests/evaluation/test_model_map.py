"""The model map: the projection against a plain SVD, and a page that is whole, safe and self-contained."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_behavior.errors import MissingExtraError, UsageError
from model_behavior.evaluation import model_map
from model_behavior.evaluation.model_map import MapData, project, write_map


@pytest.fixture
def data() -> MapData:
    # d lies beside c, and b between a and c; by cosine: a-b .8, b-c .6, c-d .96.
    embeddings = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.96, 0.28]])
    return MapData(
        names=("model-a", "model-b", "model-c", "model-d"),
        embeddings=embeddings.astype(np.float32),
        counts=np.array([1200, 20, 30, 40]),
        spread=np.array([0.125, 0.25, 0.5, 1.0]),
        group=("red", "red", "blue", "blue"),
        marked=frozenset({"model-d"}),
        title="A map",
    )


@pytest.fixture
def embeddings() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(12, 5))


def split_page(path: Path) -> tuple[str, str]:
    """The page without its scripts, and the call that draws the figure."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"<script.*?</script>", "", text, flags=re.S), text[text.rindex("Plotly.newPlot") :]


def test_pca_is_the_svd_of_the_centred_embeddings(embeddings: np.ndarray) -> None:
    left, singular, _ = np.linalg.svd(embeddings - embeddings.mean(0), full_matrices=False)
    points = project(embeddings, "pca", seed=0)
    assert points.shape == (12, 2)
    np.testing.assert_allclose(np.abs(points), np.abs(left[:, :2] * singular[:2]), atol=1e-12)


def test_pca_signs_make_the_largest_loading_positive(embeddings: np.ndarray) -> None:
    centred = embeddings - embeddings.mean(0)
    for points in (project(embeddings, "pca", 0), project(embeddings[::-1], "pca", 1)[::-1]):
        loadings = np.linalg.lstsq(centred, points, rcond=None)[0]
        assert (loadings[np.abs(loadings).argmax(0), [0, 1]] > 0).all()
    np.testing.assert_allclose(points, project(embeddings, "pca", 0), atol=1e-12)


def test_pca_of_one_dimension_and_of_equal_models_stays_finite() -> None:
    line = project(np.array([[0.0], [1.0], [3.0]]), "pca", 0)
    np.testing.assert_allclose(line, [[-4 / 3, 0], [-1 / 3, 0], [5 / 3, 0]], atol=1e-12)
    np.testing.assert_array_equal(project(np.ones((4, 3)), "pca", 0), np.zeros((4, 2)))


@pytest.mark.parametrize("n", [3, 12])
def test_tsne_is_deterministic_for_a_seed_also_for_few_models(embeddings: np.ndarray, n: int) -> None:
    first = project(embeddings[:n], "tsne", seed=1)
    assert first.shape == (n, 2)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, project(embeddings[:n], "tsne", seed=1))


def test_umap_is_deterministic_for_a_seed(embeddings: np.ndarray) -> None:
    pytest.importorskip("umap")
    np.testing.assert_array_equal(project(embeddings, "umap", 1), project(embeddings, "umap", 1))


def test_umap_without_its_extra_names_the_install(embeddings: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"UMAP .*pip install 'model-behavior\[umap\]'"):
        project(embeddings, "umap", 0)


def test_unusable_input_is_a_usage_error(embeddings: np.ndarray, data: MapData, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 3 models, and there are 2"):
        project(embeddings[:2], "pca", 0)
    with pytest.raises(UsageError, match="NaN"):
        project(np.full((3, 2), np.nan), "pca", 0)
    with pytest.raises(UsageError, match=r"'mds'.*pca, tsne, umap"):
        project(embeddings, "mds", 0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="4 names but 3 rows of counts"):
        write_map(tmp_path / "map.html", replace(data, counts=data.counts[:3]))


def test_the_table_holds_every_model_and_its_nearest(data: MapData, tmp_path: Path) -> None:
    write_map(tmp_path / "map.html", data)
    page, _ = split_page(tmp_path / "map.html")
    rows = [re.sub(r"<[^>]+>", "|", row).strip("|").split("||") for row in re.findall("<tr>.*?</tr>", page)]
    assert rows[0] == ["Model", "Family", "Responses", "Spread", "Nearest (cosine)"]
    nearest = "model-b (0.80), model-c (0.00), model-d (0.00)"
    assert rows[1] == ["model-a", "red", "1,200", "0.125", nearest]
    assert rows[4][0] == "model-d ★ new"
    assert rows[4][-1].startswith("model-c (0.96), model-b (0.58)")
    assert len(rows) == 5
    assert "<noscript>" in page


def test_the_figure_shows_names_groups_stars_and_variance(data: MapData, tmp_path: Path) -> None:
    write_map(tmp_path / "map.html", data)
    _, figure = split_page(tmp_path / "map.html")
    assert all(name in figure for name in (*data.names, '"name":"red"', '"name":"blue"'))
    assert figure.count('"star"') == 1
    singular = np.linalg.svd(data.embeddings - data.embeddings.mean(0), compute_uv=False)
    for axis, share in zip((1, 2), singular**2 / (singular**2).sum(), strict=False):
        assert f"Axis {axis}: {share:.0%} of the variance" in figure
    assert "1,200 responses" in figure


def test_tsne_axes_claim_no_variance_and_a_score_takes_the_colour(data: MapData, tmp_path: Path) -> None:
    scored = replace(data, group=None, score=np.array([0.5, -1.0, 2.0, 0.0]))
    write_map(tmp_path / "map.html", scored, method="tsne", seed=1)
    page, figure = split_page(tmp_path / "map.html")
    assert "variance" not in figure
    assert '"colorbar"' in figure
    assert "<td>-1.00</td>" in page


def test_names_cannot_inject(data: MapData, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    texts = {"title": evil, "subtitle": evil, "group": (evil, "x", "x", "x")}
    write_map(tmp_path / "map.html", replace(data, names=(evil, "b", "c", "d"), **texts))  # type: ignore[arg-type]
    assert "<script>alert" not in (tmp_path / "map.html").read_text(encoding="utf-8")
    page, figure = split_page(tmp_path / "map.html")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "alert(1)" in figure


def test_the_page_loads_nothing(data: MapData, tmp_path: Path) -> None:
    write_map(tmp_path / "map.html", data)
    text = (tmp_path / "map.html").read_text(encoding="utf-8")
    assert not re.search(r"""<(script|img|iframe|link)[^>]+(src|href)\s*=\s*["']?(https?:)?//""", text)
    assert 'src="http' not in text
    assert "default-src 'none'" in text


def test_the_same_data_gives_the_same_file(data: MapData, tmp_path: Path) -> None:
    write_map(tmp_path / "one.html", data)
    write_map(tmp_path / "two.html", data)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    data: MapData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.html"
    path.write_text("old", encoding="utf-8")

    def fail(*_: object) -> str:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            write_map(path, data)
    with monkeypatch.context() as patch:
        patch.setattr(model_map, "_fill_page", fail)
        with pytest.raises(OSError, match="disk full"):
            write_map(path, data)
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["map.html"]
    write_map(path, data)
    assert "model-a" in path.read_text(encoding="utf-8")


def test_labels_of_coinciding_dots_are_thinned_out() -> None:
    points = np.concatenate([np.zeros((20, 2)), [[1.0, 1.0]]])
    sides, readable = model_map._place_labels(points, tuple(f"a-long-model-name-{i}" for i in range(21)), 12)
    assert len(sides) == 21
    assert 2 <= sum(readable[:20]) <= 8
    assert readable[20]

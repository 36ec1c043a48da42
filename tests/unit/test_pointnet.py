"""Networks of point clouds: their published layout, and what they see."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from nefgpt.base.errors import InputError
from nefgpt.evaluation import frechet
from nefgpt.evaluation.metric import Known, Samples
from nefgpt.evaluation.pointnet import (
    PointNet,
    PointNet2,
    ball,
    farthest,
    features,
    in_sphere,
    load_network,
)
from nefgpt.evaluation.settings import Fpd
from nefgpt.signals import shapes

DATA = Path(__file__).parents[3] / "shared/data"


def clouds(n: int, seed: int = 0, points: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, points, 3)).astype(np.float32)


def test_layouts_are_the_published_ones():
    state = PointNet2(40).state_dict()
    shapes_of = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes_of["sa1.mlp_convs.0.weight"] == (64, 3, 1, 1)
    assert shapes_of["sa2.mlp_convs.0.weight"] == (128, 131, 1, 1)
    assert shapes_of["sa3.mlp_convs.2.weight"] == (1024, 512, 1, 1)
    assert shapes_of["sa3.mlp_bns.2.running_var"] == (1024,)
    assert shapes_of["fc1.weight"] == (512, 1024) and shapes_of["fc3.weight"] == (40, 256)
    state = PointNet(40).state_dict()
    assert tuple(state["feature_model.conv5.weight"].shape) == (1024, 128, 1)
    assert tuple(state["linear3.weight"].shape) == (40, 256)


def test_centres_are_far_apart_and_balls_hold_what_is_near():
    points = torch.from_numpy(clouds(2))
    chosen = farthest(points, 20)
    for cloud, rows in zip(points.numpy(), chosen.numpy(), strict=True):
        known = [0]
        while len(known) < 20:
            apart = np.linalg.norm(cloud[:, None] - cloud[known], axis=2).min(axis=1)
            known.append(int(apart.argmax()))
        assert rows.tolist() == known
    centres = points[:, :9]
    found = ball(points, centres, 0.9, 6).numpy()
    for b in range(2):
        for c in range(9):
            apart = np.linalg.norm(points[b].numpy() - centres[b, c].numpy(), axis=1)
            near = np.flatnonzero(apart <= 0.9)[:6]
            assert found[b, c].tolist() == [*near, *[near[0]] * (6 - len(near))]


@pytest.mark.parametrize("kind", [PointNet, PointNet2])
def test_order_of_points_and_batch_do_not_matter(kind):
    torch.manual_seed(0)
    model, some = kind(5).eval(), clouds(3, points=600)
    once = features(model, some, (0, 1, 2))
    assert once.shape == (3, 256)
    np.testing.assert_allclose(features(model, some[1:2], (0, 1, 2))[0], once[1], atol=1e-4)
    moved = features(model, 3 * some + 1, (0, 1, 2))
    np.testing.assert_allclose(moved, once, atol=1e-3, err_msg="in the unit sphere")
    if kind is PointNet:
        np.testing.assert_allclose(features(model, some[:, ::-1], (0, 1, 2)), once, atol=1e-5)
    turned = features(model, some[..., [0, 2, 1]], (0, 2, 1))
    np.testing.assert_allclose(turned, once, atol=1e-5)
    assert np.linalg.norm(in_sphere(some, (0, 1, 2)), axis=2).max(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(("name", "kind"), [("pointnet", PointNet), ("pointnet2", PointNet2)])
def test_states_are_loaded_by_path(name, kind, tmp_path):
    torch.manual_seed(1)
    model, some = kind(7).eval(), clouds(2, points=600)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    torch.save({"epoch": 3, "model_state_dict": model.state_dict()}, tmp_path / "a.pth")
    expected = features(model, some, (0, 1, 2))
    for file in ("a.safetensors", "a.pth"):
        found = features(load_network(name, tmp_path / file), some, (0, 1, 2))
        np.testing.assert_array_equal(found, expected)
    other = "pointnet2" if name == "pointnet" else "pointnet"
    (tmp_path / "b.pth").write_bytes(b"PK no checkpoint")
    for file, of in (("a.safetensors", other), ("b.pth", name)):
        with pytest.raises(InputError, match=rf"{file} is no checkpoint of {of}"):
            load_network(of, tmp_path / file)
    with pytest.raises(InputError, match=r"evaluation\.fpd\.checkpoint = nowhere"):
        frechet.network_of(Fpd(checkpoint="nowhere"))


def test_a_value_names_its_network(tmp_path):
    torch.manual_seed(1)
    save_file(PointNet(7).state_dict(), tmp_path / "a.safetensors")
    network = frechet.network_of(Fpd(checkpoint=str(tmp_path / "a.safetensors")))
    reference = clouds(6)
    known = Known(reference, np.zeros((6, 6)), network=network)
    samples = clouds(6, 1)
    samples[2] = np.nan
    found = frechet.measure(Samples(samples, pd.DataFrame(), shapes, 0), known)
    assert list(found) == ["FPD (PointNet)"] and found["FPD (PointNet)"] > 0
    assert frechet.extractor("FPD (PointNet)", known) == f"pointnet {network.mark}"
    assert frechet.extractor("COV %", known) == ""
    same = frechet.measure(Samples(reference, pd.DataFrame(), shapes, 0), known)
    assert same["FPD (PointNet)"] == pytest.approx(0, abs=1e-6)
    assert frechet.measure(Samples(samples, pd.DataFrame(), shapes, 0), Known(reference, 0)) == {}


@pytest.mark.skipif(not (DATA / "pointnet").is_dir(), reason="the published PointNet is not here")
def test_the_published_pointnet_knows_airplanes():
    from nefgpt.inputs.meshes import load_mesh, surface_points

    model = load_network("pointnet", DATA / "pointnet/pointnet_modelnet40.safetensors")
    paths = sorted((DATA / "airplanes").glob("*.ply"))[:20]
    some = np.stack([surface_points(load_mesh(path), 1024, 0)[0] for path in paths])

    def named(axes: tuple[int, int, int]) -> float:
        with torch.inference_mode():
            logits = model(torch.from_numpy(in_sphere(some, axes)))
        return float((logits.argmax(dim=1) == 0).float().mean())

    assert named((0, 1, 2)) > 0.9, "up is y, as in our frame"
    assert named((0, 2, 1)) < 0.2

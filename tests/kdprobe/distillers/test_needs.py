"""What each method reads of the two networks: `student_needs` and `teacher_needs` say it exactly, and are checked."""

from dataclasses import fields, replace

import pytest
import torch

from kdprobe.data.loaders import Batch
from kdprobe.distillers import DISTILLERS, Progress, make_method
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features
from tests.kdprobe.distillers.test_extremes import TOKEN_STUDENT, VIT_TEACHER, _features, _shapes

N_CLASSES = 5
#: the methods and options that read the teacher's logits, or its classifier
OF_LOGITS = {
    "kd": {},
    "dkd": {},
    "mld": {},
    "ofa": {},
    "dist": {},
    "logit_standard": {},
    "nkd": {},
    "ttm": {},
    "wttm": {},
    "sdd": {},
    "deit": {},
    "cat_kd": {},
    "wkd": {},
    "cskd": {},
    "cakd": {"preset": "code"},
    "dropkd": {"logit_source": "logits"},
    "srd": {},
}
OF_FEATURES = {
    **{name: {} for name in ("at", "rkd", "fitnet", "reviewkd", "crd", "dpk", "cakd", "dropkd")},
    **{name: {} for name in ("sp", "pkt", "cc", "vid", "rsd", "cka")},
    "srd": {"kd_weight": 0},
}
#: what must be set so that features alone are learnt from images without labels
UNLABELLED = {name: {**options, "ce_weight": 0} for name, options in OF_FEATURES.items() if name != "crd"}
UNLABELLED["dropkd"] |= {"logit_weight": 0, "classifier_weight": 0}


def shapes(name, *, n_classes=N_CLASSES, teacher_classes=N_CLASSES):
    student = _shapes("vit" if name in TOKEN_STUDENT else "cnn", n_classes)
    teacher = _shapes("vit" if name in VIT_TEACHER else "cnn", teacher_classes)
    return student, teacher if DISTILLERS[name].uses_teacher else None


def made(name, options, **sizes):
    torch.manual_seed(0)
    return make_method({"name": name, **options}, *shapes(name, **sizes))


def only(features, needs):
    """The features that are asked for; logits of a headless network, where they are not."""
    kept = {"n_prefix", *needs, *(["heads"] if "head" in needs else [])}
    empty = {"logits": features.logits[:, :0], "pooled": None, "tokens": None, "qkv": None}
    left_out = {field.name for field in fields(Features)} - kept
    return replace(features, **{name: empty.get(name, ()) for name in left_out})


def given(shapes, n, needs, *, seed):
    """Features of the student (seed 1) or the teacher (seed 2), but only what is asked for."""
    headed = shapes if shapes.n_classes else replace(shapes, n_heads=0)
    return only(_features(headed, n, fill="normal", gradient=seed == 1, seed=seed)[0], needs)


def terms(method, student_needs, teacher_needs):
    torch.manual_seed(1)
    n = 6
    labels = method.inputs(Batch(torch.rand(n, 3, 16, 16), torch.arange(n) % N_CLASSES, torch.arange(n)))[2]
    student = given(method.student_shapes, len(labels), student_needs, seed=1)
    teacher = method.teacher_shapes and given(method.teacher_shapes, len(labels), teacher_needs, seed=2)
    torch.manual_seed(2)
    return method(student, teacher, labels, Progress(40.0, 100))


ALL = [*OF_FEATURES.items(), *OF_LOGITS.items(), ("dropkd", {"logit_source": "head"}), ("plain", {}), ("eac", {})]


@pytest.mark.parametrize(("name", "options"), ALL)
def test_the_needs_are_all_that_a_method_reads(name, options):
    method = made(name, options)
    found = terms(method, method.student_needs, method.teacher_needs)
    assert all(term.isfinite() for term in found.values())


@pytest.mark.parametrize(("name", "options"), ALL)
def test_a_method_says_how_many_views_it_makes_of_each_image(name, options):
    method, n = made(name, options), 2
    images, shown, labels = method.inputs(Batch(torch.rand(n, 3, 16, 16), torch.arange(n), torch.arange(n)))
    assert len(images) == len(shown) == len(labels) == n * method.n_views


@pytest.mark.parametrize(("name", "options"), OF_LOGITS.items())
def test_a_method_that_reads_the_teachers_logits_needs_them(name, options):
    method = made(name, options)
    assert {"logits", "head"} & set(method.teacher_needs)
    with pytest.raises((RuntimeError, IndexError, AssertionError, TypeError, ValueError, UserWarning)):
        terms(method, method.student_needs, set(method.teacher_needs) - {"logits", "head"})


def test_every_method_is_looked_at():
    assert {*OF_LOGITS, *OF_FEATURES, "plain", "eac", "scn"} == set(DISTILLERS)


@pytest.mark.parametrize(("name", "options"), [*OF_LOGITS.items(), ("dropkd", {"logit_source": "head"})])
def test_a_teacher_without_a_classifier_is_refused_with_how_to_get_one(name, options):
    refusal = rf"method '{name}' learns from the teacher's logits, but \w+ has no classifier: train one on it \(model.w"
    with pytest.raises(ModelError, match=refusal):
        made(name, options, teacher_classes=0)


@pytest.mark.parametrize("name", [name for name, kind in DISTILLERS.items() if kind.without_logits])
def test_a_refusal_names_the_options_that_need_no_logits(name):
    options, remedy = OF_LOGITS[name], DISTILLERS[name].without_logits
    said = " ".join(f"method.{key}={value}" for key, value in remedy.items())
    with pytest.raises(ModelError, match=f"has no classifier: train .*, or set {said}, or take a method"):
        made(name, options, teacher_classes=0)
    assert made(name, options | dict(remedy), teacher_classes=0)


def test_the_methods_whose_options_choose_what_they_read_say_so():
    several = {name for name in OF_FEATURES if name in OF_LOGITS}
    assert {name for name, kind in DISTILLERS.items() if kind.without_logits} == several | {"wkd"}


@pytest.mark.parametrize(("name", "options"), OF_FEATURES.items())
def test_a_teacher_without_a_classifier_teaches_by_its_features(name, options):
    method = made(name, options, teacher_classes=0)
    found = terms(method, method.student_needs, method.teacher_needs)
    assert found
    assert all(term.isfinite() for term in found.values())


def test_dropkd_is_the_same_whatever_the_teachers_own_classes_are():
    found = [terms(made("dropkd", {}, teacher_classes=n), ("maps",), ("maps",)) for n in (0, N_CLASSES, 100)]
    assert found[0] == found[1] == found[2]
    assert {"feature", "logit", "classifier_teacher", "classifier_student"} < set(found[0])


@pytest.mark.parametrize(("name", "options"), UNLABELLED.items())
def test_features_are_learnt_without_labels(name, options):
    method = made(name, options, n_classes=0, teacher_classes=0)
    found = terms(method, method.student_needs, method.teacher_needs)
    assert found
    assert all(term.isfinite() for term in found.values())
    if name == "dropkd":
        assert set(found) == {"feature", "reconstruction_teacher", "reconstruction_student"}
        assert not [key for key, _ in method.named_parameters() if "classifier" in key]


@pytest.mark.parametrize("name", [*{**OF_LOGITS, "plain": {}, "scn": {}, "eac": {}}])
def test_classes_are_not_learnt_without_labels(name):
    refusal = f"method '{name}' learns from classes, but the data have no labels; .*take one that reads a teacher's"
    options = OF_LOGITS.get(name, {})
    if name == "dropkd":
        options = {**options, **UNLABELLED["dropkd"]}
    for teacher_classes in (N_CLASSES, 0):
        with pytest.raises(ModelError, match=refusal):
            made(name, options, n_classes=0, teacher_classes=teacher_classes)


@pytest.mark.parametrize("name", [*UNLABELLED])
def test_a_cross_entropy_without_labels_is_refused(name):
    options = {key: value for key, value in UNLABELLED[name].items() if key != "ce_weight"}
    with pytest.raises(ModelError, match=f"'{name}' weights the cross entropy with the labels by 1, but the data have"):
        made(name, options, n_classes=0)


def test_dropkd_and_crd_without_labels_say_what_to_give():
    with pytest.raises(ModelError, match=r"set method.logit_weight=0, method.classifier_weight=0 and method.ce_w"):
        made("dropkd", {"ce_weight": 0}, n_classes=0)
    with pytest.raises(ModelError, match="crd tells images of other classes apart, but the data have no labels; rkd"):
        made("crd", {"ce_weight": 0}, n_classes=0)

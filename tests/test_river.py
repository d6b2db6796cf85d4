"""Tests of the online models in river: its checks of estimators, its pipelines and two of its data sets."""

import pytest

pytest.importorskip("river")
pytest.importorskip("sklearn")

from river import base, checks, compose, datasets, evaluate, metrics, preprocessing

from nnc.river import Classifier, Regressor

MODELS = {"classifier": Classifier(seed=0), "regressor": Regressor(seed=0), "random": Classifier(optimizer="sgd")}
CHECKS = [(name, check) for name, model in MODELS.items() for check in checks.yield_checks(model)]


@pytest.mark.parametrize(("name", "check"), CHECKS, ids=[f"{name}-{check.__name__}" for name, check in CHECKS])
def test_models_pass_checks_of_river(name, check):
    check(MODELS[name].clone())


def test_classifier_works_in_pipeline():
    model = compose.Select("age_of_domain", "is_popular") | preprocessing.MinMaxScaler() | Classifier(seed=0)
    assert isinstance(model, base.Classifier)
    assert evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Accuracy()).get() > 0.6


def test_models_predict_phishing_and_approval_well():
    score = evaluate.progressive_val_score(datasets.Phishing(), Classifier(seed=0), metrics.Accuracy()).get()
    assert score > 0.88
    error = evaluate.progressive_val_score(datasets.TrumpApproval(), Regressor(seed=0), metrics.MAE()).get()
    assert error < 0.9

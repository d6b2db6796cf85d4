"""On a real scheduler and workers, all processes: the same bits as here, whatever happens to them."""

import os
import runpy
import signal
import time
from pathlib import Path
from threading import Timer

import numpy as np
import pytest

pytest.importorskip("distributed")

import dask.array as da

import nnc
import nnc.dask
from nnc import NeuralNetwork

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
Y = np.sin(X[:, :1]) + X[:, 1:2] * X[:, 2:]

pytestmark = [
    pytest.mark.filterwarnings("ignore::nnc.TrainingWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(os.name == "nt", reason="signals"),
]


def _campaign():
    path = Path(__file__).parent.parent / "tools" / "campaigns" / "cluster.py"
    if not path.exists():
        pytest.skip("the campaigns are not here", allow_module_level=True)
    return runpy.run_path(str(path))


cluster = _campaign()["cluster"]


def networks(n=12, width=20):
    return nnc.clones(NeuralNetwork([3, width, 1], activation="tanh", loss="mse", scale_X="standardize", seed=0), n)


OPTIONS = {"epochs": 30, "batch_size": 8, "optimizer": "adam", "validation": (X[:50], Y[:50]), "patience": 20}


@pytest.fixture(scope="module")
def local():
    made = networks()
    history = nnc.fit_many(made, X, Y, **OPTIONS)
    return [network.params.tobytes() for network in made], history.loss.tolist()


def test_the_same_bits_for_every_number_of_workers(tmp_path, local):
    params, losses = local
    with cluster(tmp_path, 1) as (made, client):
        for n in (1, 2, 3):
            if n > 1:
                made.add()
            client.wait_for_workers(n, timeout=60)
            found = networks()
            history = nnc.dask.fit_many(found, X, Y, client, **OPTIONS)
            assert [network.params.tobytes() for network in found] == params
            assert history.loss.tolist() == losses
        rows = [np.arange(k, 200) for k in range(12)]
        here, there = networks(), networks()
        nnc.fit_many(here, X, Y, rows=rows, epochs=3, lr=nnc.PerNetwork([0.01] * 11 + [1e300]))
        with pytest.warns(nnc.DivergedWarning):
            history = nnc.dask.fit_many(there, X, Y, rows=rows, epochs=3, lr=nnc.PerNetwork([0.01] * 11 + [1e300]))
        assert list(history.diverged) == [11]
        assert [a.params.tobytes() for a in here] == [b.params.tobytes() for b in there]
        found = networks()
        history = nnc.fit_many(found, X, Y, executor=client.get_executor(), **OPTIONS)
        assert [network.params.tobytes() for network in found] == params
        estimators(client)


def estimators(client):
    """DaskMLPClassifier and DaskMLPRegressor, and scikit-learn's searches, on the cluster that is there."""
    pytest.importorskip("sklearn")
    import joblib
    from sklearn.model_selection import GridSearchCV

    from nnc.sklearn import EnsembleClassifier, EnsembleRegressor, MLPRegressor

    names = np.where(X[:, 0] > 0, "high", "low")
    names[190:] = "rare"  # in the last partition alone
    small = {"hidden_layer_sizes": (6,), "n_estimators": 3, "max_iter": 5, "random_state": 0}
    chunks = ((90, 0, 7, 103), (3,))
    dX, dnames, dy = (
        da.from_array(X, chunks),
        da.from_array(names, chunks[0]),
        da.from_array(Y, ((90, 0, 7, 103), (1,))),
    )
    weights = da.ones(200, chunks=chunks[0])
    model = nnc.dask.DaskMLPClassifier(**small, client=client).fit(dX, dnames, weights)
    same = EnsembleClassifier(**small).fit(X, names, np.ones(200))
    assert model.classes_.tolist() == ["high", "low", "rare"]
    lazy = model.predict_proba(dX)
    assert lazy.chunks[0] == chunks[0]
    assert np.array_equal(lazy.compute(), same.predict_proba(X))
    assert model.predict(dX).compute().tolist() == same.predict(X).tolist()
    assert np.array_equal(model.to_local().predict_proba(X), same.predict_proba(X))
    assert type(model.to_local()) is EnsembleClassifier
    model = nnc.dask.DaskMLPRegressor(**small, client=client).fit(dX, dy)
    same = EnsembleRegressor(**small).fit(X, Y)
    assert np.array_equal(model.predict(dX).compute(), same.predict(X))
    pandas, frames = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    table, labels = pandas.DataFrame(X, columns=["a", "b", "c"]), pandas.Series(names)
    lazy, model = frames.from_pandas(table, npartitions=3), nnc.dask.DaskMLPClassifier(**small)
    model.fit(lazy, frames.from_pandas(labels, npartitions=3), np.ones(200))
    same = EnsembleClassifier(**small).fit(table, labels, np.ones(200))
    assert np.array_equal(model.predict_proba(lazy).compute(), same.predict_proba(table))
    few = lazy[lazy["a"] > 1.5]  # of sizes that nobody knows yet, one perhaps empty
    assert model.predict(few).compute().tolist() == same.predict(table[table["a"] > 1.5]).tolist()
    mlp = MLPRegressor(hidden_layer_sizes=(5,), max_iter=5, random_state=0, tol=1e9, n_iter_no_change=2)
    search = GridSearchCV(mlp, {"alpha": [1e-4, 1.0]}, cv=2)
    plain = search.fit(X, Y[:, 0]).best_estimator_.predict(X)
    with joblib.parallel_config("dask", client=client):
        assert np.array_equal(search.fit(X, Y[:, 0]).best_estimator_.predict(X), plain)


def test_a_worker_holds_the_data_once_and_one_that_comes_fetches_it(tmp_path):
    seen = tmp_path / "seen"
    seen.mkdir()

    def look(record):  # on the worker, four times for each network
        import gc
        import os
        import time
        from pathlib import Path

        from nnc._parallel.source import Source

        held = [thing for thing in gc.get_objects() if type(thing) is Source]
        pages = int(Path("/proc/self/statm").read_text().split()[1]) if os.path.exists("/proc/self/statm") else 0
        with open(seen / str(os.getpid()), "a") as file:
            file.write(f"{len(held)} {sum(len(one._converted) for one in held)} {pages * os.sysconf('SC_PAGE_SIZE')}\n")
        until = time.monotonic() + 30
        while len(os.listdir(seen)) < 3 and time.monotonic() < until:  # until the one that comes has something to do
            time.sleep(0.01)

    look.every = 600
    large = np.random.default_rng(0).normal(size=(50_000, 100))  # 40 MB
    target = large[:, :1]
    here, away = (nnc.clones(NeuralNetwork([100, 1], loss="mse", seed=0), 12) for _ in range(2))
    options = {"rows": [np.arange(k, 50_000, 50) for k in range(12)], "epochs": 2400, "lr": 0.01}
    with cluster(tmp_path, 2) as (there, client):
        workers = {process.pid for process in there.workers}

        def restart():
            until = time.monotonic() + 20
            while sum(path.stat().st_size > 0 for path in seen.iterdir()) < 2 and time.monotonic() < until:
                time.sleep(0.01)
            there.workers[0].send_signal(signal.SIGKILL)
            workers.add(there.add().pid)

        restarted = Timer(0, restart)
        restarted.start()
        nnc.dask.fit_many(away, large, target, client, callback=look, **options)
        restarted.join()
    nnc.fit_many(here, large, target, **options)
    assert [a.params.tobytes() for a in here] == [b.params.tobytes() for b in away]
    assert {int(path.name) for path in seen.iterdir()} == workers  # each has had something to do
    for path in seen.iterdir():
        lines = [[int(number) for number in line.split()] for line in path.read_text().splitlines()]
        assert all(line[:2] == [1, 1] for line in lines)
        assert lines[-1][2] - lines[0][2] < large.nbytes / 2


def test_what_waits_for_data_of_a_frozen_worker_is_done_by_others(tmp_path, set_limit, monkeypatch):
    from nnc.dask.fit import _Run

    set_limit("nnc.dask.fit.MAX_SILENT_SECONDS", 3.0)
    check_workers, begun = _Run.check_workers, tmp_path / "begun"

    def resent(run):  # the new worker has a task moved to it, then a result is lost, so that data is sent anew
        if not hasattr(run, "first"):
            run.first = next(iter(run._workers()))
        if len(run._workers()) == 2 and not hasattr(run, "moved"):
            (run.moved,) = set(run._workers()) - {run.first}
            run.submit([*run.pending][-1], [run.moved])
            run.data = run._send_data([run.moved])
        check_workers(run)

    def begin(record):
        begun.touch()

    begin.every = 100
    # The scheduler moves tasks and loses results at moments that a client cannot choose.
    monkeypatch.setattr(_Run, "check_workers", resent)
    here, away = networks(8), networks(8)
    options = {"epochs": 1500, "batch_size": 8}
    nnc.fit_many(here, X, Y, **options)
    with cluster(tmp_path, 1) as (made, client):

        def freeze():
            until = time.monotonic() + 30
            while not begun.exists() and time.monotonic() < until:
                time.sleep(0.01)
            made.workers[0].send_signal(signal.SIGSTOP)
            made.add()

        Timer(0, freeze).start()
        nnc.dask.fit_many(away, X, Y, client, callback=begin, **options)
    assert [a.params.tobytes() for a in here] == [b.params.tobytes() for b in away]


def test_interrupts_end_the_tasks_and_a_lost_scheduler_is_said(tmp_path):
    with cluster(tmp_path, 1) as (made, client):
        Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        found, before = networks(3), networks(3)
        history = nnc.dask.fit_many(found, X, Y, client, epochs=10**8, lr=1e-6)
        assert {one.stop_reason for one in history} == {"interrupt"}
        assert [a.params.tobytes() for a in found] == [b.params.tobytes() for b in before]
        nnc.dask.fit_many(found, X, Y, client, epochs=1)  # the worker is free again
        Timer(1.5, made.scheduler.send_signal, (signal.SIGKILL,)).start()
        with pytest.raises(ConnectionError, match=r"the scheduler at tcp://127.0.0.1:\d+ is lost: \d of 4 networks"):
            nnc.dask.fit_many(networks(4), X, Y, client, epochs=10**8, lr=1e-6, timeout=3)


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="client must be passed"):
        nnc.dask.fit_many(networks(2), X, Y, epochs=1)
    with pytest.raises(TypeError, match=r"client must be a synchronous distributed.Client"):
        nnc.dask.fit_many(networks(2), X, Y, 3, epochs=1)


def test_partitions_one_after_the_other(tmp_path):
    chunks = (90, 0, 7, 103)
    dX, dy = da.from_array(X, (chunks, (2, 1))), da.from_array(Y, (chunks, (1,)))
    options = {"batch_size": 16, "optimizer": "adam", "lr": 0.01}
    whole, by_hand = networks(2), networks(2)
    nnc.dask.fit_partitions(whole, dX, dy, passes=2, **options)
    for k, rows in enumerate((slice(90), slice(90, 97), slice(97, 200)) * 2):
        given = options if k == 0 else {"batch_size": 16}
        nnc.fit_many(by_hand, X[rows], Y[rows], epochs=1, **given)
    assert [a.params.tobytes() for a in whole] == [b.params.tobytes() for b in by_hand]
    path = tmp_path / "checkpoint.json"

    class Stop(Exception):
        pass

    def stop_at(epoch):
        def stop(record):
            if record.epoch == epoch:
                raise Stop

        return stop

    broken = networks(2)
    with pytest.raises(Stop):
        nnc.dask.fit_partitions(broken, dX, dy, passes=2, checkpoint=path, callback=stop_at(4), **options)
    again = networks(2)
    nnc.dask.fit_partitions(again, dX, dy, passes=2, checkpoint=path, **options)
    assert [a.params.tobytes() for a in whole] == [b.params.tobytes() for b in again]
    path = tmp_path / "trained_before.json"
    broken = [network.copy() for network in whole]
    with pytest.raises(Stop):
        nnc.dask.fit_partitions(broken, dX, dy, checkpoint=path, callback=stop_at(8), batch_size=16)
    nnc.dask.fit_partitions(again, dX, dy, checkpoint=path, batch_size=16)
    nnc.dask.fit_partitions(whole, dX, dy, batch_size=16)
    assert [a.params.tobytes() for a in whole] == [b.params.tobytes() for b in again]
    names = np.repeat(["a", "b", "c"], [90, 7, 103])  # each in one partition alone
    of_classes = [NeuralNetwork([3, 4, 3], loss="cross_entropy", seed=0)]
    nnc.dask.fit_partitions(of_classes, dX, da.from_array(names, (chunks,)), batch_size=16)
    assert of_classes[0].classes.tolist() == ["a", "b", "c"]
    refused = NeuralNetwork([3, 4, 3], loss="cross_entropy", seed=0)
    with pytest.raises(ValueError, match="patience"):
        nnc.dask.fit_partitions([refused], dX, da.from_array(names, (chunks,)), patience=0)
    assert refused.classes is None
    automatic = [NeuralNetwork([3, 4, 3], loss="auto", seed=0), NeuralNetwork([3, 4, 3], loss="auto", seed=0)]
    with pytest.raises(ValueError, match="patience"):
        nnc.dask.fit_partitions(automatic[1:], dX, da.from_array(names, (chunks,)), patience=0)
    with pytest.raises(ValueError, match=r"^checkpoint must contain 1 network, got 2"):
        nnc.dask.fit_partitions(automatic[1:], dX, da.from_array(names, (chunks,)), checkpoint=path)
    nnc.dask.fit_partitions(automatic[:1], dX, da.from_array(names, (chunks,)), batch_size=16)
    assert [net.loss_name for net in automatic] == ["cross_entropy", "auto"]
    assert automatic[0].params.tobytes() == of_classes[0].params.tobytes()
    assert of_classes[0].state.optimizer == nnc.Adam()
    assert of_classes[0].history.lr.tolist() == [0.001] * 3
    by_rule = networks(2)
    nnc.fit_many(by_rule, X, Y, epochs=2)
    nnc.dask.fit_partitions(by_rule, dX, dy)
    assert by_rule[0].history.lr[2:].tolist() == [0.001] * 3
    by_hand = networks(2)
    nnc.fit_many(by_hand, X, Y, epochs=2)
    for k, rows in enumerate((slice(90), slice(90, 97), slice(97, 200))):
        nnc.fit_many(by_hand, X[rows], Y[rows], epochs=1, batch_size=(32, 32, 32)[k], lr=0.001)
    assert [a.params.tobytes() for a in by_rule] == [b.params.tobytes() for b in by_hand]
    steps = by_rule[0].state.steps
    nnc.dask.fit_partitions(by_rule, dX, dy)
    assert by_rule[0].state.steps == steps + 3 + 1 + 4
    some = networks(2)
    nnc.dask.fit_partitions(some, dX, dy, lr=nnc.PerNetwork([None, 0.1]))
    assert [set(network.history.lr) for network in some] == [{0.001}, {0.1}]


def test_partial_fit():
    pytest.importorskip("sklearn")
    chunks = (90, 0, 7, 103)
    dX = da.from_array(X, (chunks, (3,)))
    names = np.repeat(["a", "b", "c"], [90, 7, 103])
    small = {"hidden_layer_sizes": (6,), "n_estimators": 2, "random_state": 0}
    model = nnc.dask.DaskMLPClassifier(**small)
    for _ in range(2):
        model.partial_fit(dX, da.from_array(names, (chunks,)))
    assert model.predict(dX).compute().shape == (200,)
    with pytest.raises(ValueError, match=r"y must have only classes of the fit, \['a', 'b', 'c'\], got 'd'"):
        model.partial_fit(dX, da.from_array(np.full(200, "d"), (chunks,)))
    twice = nnc.dask.DaskMLPClassifier(**small).partial_fit(dX, da.from_array(names, (chunks,)), passes=2)
    assert np.array_equal(twice.to_local().predict_proba(X), model.to_local().predict_proba(X))
    regressor = nnc.dask.DaskMLPRegressor(**small).partial_fit(dX, da.from_array(Y[:, 0], (chunks,)))
    assert regressor.predict(X).shape == (200,)

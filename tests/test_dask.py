"""Tests of nnc.dask with a real scheduler and worker processes: results have the bits of local training."""

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


def _load_campaign():
    """Return the global names of the campaign that starts and stops clusters; skip this file without it."""
    path = Path(__file__).parent.parent / "tools" / "campaigns" / "cluster.py"
    if not path.exists():
        pytest.skip("the campaigns are only in the source folder", allow_module_level=True)
    return runpy.run_path(str(path))


cluster = _load_campaign()["cluster"]


def build_networks(n=12, width=20):
    """Return regressors that differ only in their seeds."""
    return nnc.clones(NeuralNetwork([3, width, 1], activation="tanh", loss="mse", scale_X="standardize", seed=0), n)


OPTIONS = {"epochs": 30, "batch_size": 8, "optimizer": "adam", "validation": (X[:50], Y[:50]), "patience": 20}


@pytest.fixture(scope="module")
def local_results():
    """Return the parameters of networks that were trained without a cluster, and their losses."""
    trained = build_networks()
    history = nnc.fit_many(trained, X, Y, **OPTIONS)
    return [network.params.tobytes() for network in trained], history.loss.tolist()


def test_number_of_workers_does_not_change_bits(tmp_path, local_results):
    expected_params, expected_losses = local_results
    with cluster(tmp_path, 1) as (processes, client):
        for n in (1, 2, 3):
            if n > 1:
                processes.add_worker()
            client.wait_for_workers(n, timeout=60)
            trained = build_networks()
            history = nnc.dask.fit_many(trained, X, Y, client, **OPTIONS)
            assert [network.params.tobytes() for network in trained] == expected_params
            assert history.loss.tolist() == expected_losses
        rows = [np.arange(k, 200) for k in range(12)]
        trained_locally, trained_on_cluster = build_networks(), build_networks()
        nnc.fit_many(trained_locally, X, Y, rows=rows, epochs=3, lr=nnc.PerNetwork([0.01] * 11 + [1e300]))
        with pytest.warns(nnc.DivergedWarning):
            history = nnc.dask.fit_many(
                trained_on_cluster, X, Y, rows=rows, epochs=3, lr=nnc.PerNetwork([0.01] * 11 + [1e300])
            )
        assert list(history.diverged) == [11]
        assert [a.params.tobytes() for a in trained_locally] == [b.params.tobytes() for b in trained_on_cluster]
        trained = build_networks()
        history = nnc.fit_many(trained, X, Y, executor=client.get_executor(), **OPTIONS)
        assert [network.params.tobytes() for network in trained] == expected_params
        check_estimators(client)


def check_estimators(client):
    """Check that the Dask estimators and searches of scikit-learn on the cluster equal local estimators."""
    pytest.importorskip("sklearn")
    import joblib
    from sklearn.model_selection import GridSearchCV

    from nnc.sklearn import EnsembleClassifier, EnsembleRegressor, MLPRegressor

    names = np.where(X[:, 0] > 0, "high", "low")
    names[190:] = "rare"  # the class 'rare' occurs only in the last partition
    options = {"hidden_layer_sizes": (6,), "n_estimators": 3, "max_iter": 5, "random_state": 0}
    chunks = ((90, 0, 7, 103), (3,))
    d_X, d_names, d_y = (
        da.from_array(X, chunks),
        da.from_array(names, chunks[0]),
        da.from_array(Y, ((90, 0, 7, 103), (1,))),
    )
    weights = da.ones(200, chunks=chunks[0])
    model = nnc.dask.DaskMLPClassifier(**options, client=client).fit(d_X, d_names, weights)
    expected = EnsembleClassifier(**options).fit(X, names, np.ones(200))
    assert model.classes_.tolist() == ["high", "low", "rare"]
    lazy_result = model.predict_proba(d_X)
    assert lazy_result.chunks[0] == chunks[0]
    assert np.array_equal(lazy_result.compute(), expected.predict_proba(X))
    assert model.predict(d_X).compute().tolist() == expected.predict(X).tolist()
    assert np.array_equal(model.to_local().predict_proba(X), expected.predict_proba(X))
    assert type(model.to_local()) is EnsembleClassifier
    model = nnc.dask.DaskMLPRegressor(**options, client=client).fit(d_X, d_y)
    expected = EnsembleRegressor(**options).fit(X, Y)
    assert np.array_equal(model.predict(d_X).compute(), expected.predict(X))
    pandas, frames = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    table, labels = pandas.DataFrame(X, columns=["a", "b", "c"]), pandas.Series(names)
    lazy_frame, model = frames.from_pandas(table, npartitions=3), nnc.dask.DaskMLPClassifier(**options)
    model.fit(lazy_frame, frames.from_pandas(labels, npartitions=3), np.ones(200))
    expected = EnsembleClassifier(**options).fit(table, labels, np.ones(200))
    assert np.array_equal(model.predict_proba(lazy_frame).compute(), expected.predict_proba(table))
    # The numbers of rows of these partitions are unknown until they are computed, and a partition may be empty.
    filtered = lazy_frame[lazy_frame["a"] > 1.5]
    assert model.predict(filtered).compute().tolist() == expected.predict(table[table["a"] > 1.5]).tolist()
    mlp = MLPRegressor(hidden_layer_sizes=(5,), max_iter=5, random_state=0, tol=1e9, n_iter_no_change=2)
    search = GridSearchCV(mlp, {"alpha": [1e-4, 1.0]}, cv=2)
    expected_predictions = search.fit(X, Y[:, 0]).best_estimator_.predict(X)
    with joblib.parallel_config("dask", client=client):
        assert np.array_equal(search.fit(X, Y[:, 0]).best_estimator_.predict(X), expected_predictions)


def test_each_worker_receives_data_once_also_after_restart(tmp_path):
    reports = tmp_path / "seen"
    reports.mkdir()

    def report_memory(record):
        """Append the numbers of `Source` objects and conversions, and the memory in bytes, to a file."""
        import gc
        import os
        import time
        from pathlib import Path

        from nnc._parallel.source import Source

        sources = [item for item in gc.get_objects() if type(item) is Source]
        pages = int(Path("/proc/self/statm").read_text().split()[1]) if os.path.exists("/proc/self/statm") else 0
        n_conversions = sum(len(source._converted) for source in sources)
        with open(reports / str(os.getpid()), "a") as file:
            file.write(f"{len(sources)} {n_conversions} {pages * os.sysconf('SC_PAGE_SIZE')}\n")
        deadline = time.monotonic() + 30
        # Wait until the new worker has a task, too.
        while len(os.listdir(reports)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)

    report_memory.every = 600  # call report_memory every 600 epochs, four times in 2400 epochs
    # The inputs take 40 MB, so each copy of them increases the memory visibly.
    large = np.random.default_rng(0).normal(size=(50_000, 100))
    target = large[:, :1]
    trained_locally, trained_on_cluster = (
        nnc.clones(NeuralNetwork([100, 1], loss="mse", seed=0), 12) for _ in range(2)
    )
    options = {"rows": [np.arange(k, 50_000, 50) for k in range(12)], "epochs": 2400, "lr": 0.01}
    with cluster(tmp_path, 2) as (processes, client):
        workers = {process.pid for process in processes.workers}

        def replace_worker():
            deadline = time.monotonic() + 20
            while sum(path.stat().st_size > 0 for path in reports.iterdir()) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            processes.workers[0].send_signal(signal.SIGKILL)
            processes.add_worker()
            workers.add(processes.workers[-1].pid)

        timer = Timer(0, replace_worker)
        timer.start()
        nnc.dask.fit_many(trained_on_cluster, large, target, client, callback=report_memory, **options)
        timer.join()
    nnc.fit_many(trained_locally, large, target, **options)
    assert [a.params.tobytes() for a in trained_locally] == [b.params.tobytes() for b in trained_on_cluster]
    # Each worker wrote a report, so each one trained a network.
    assert {int(path.name) for path in reports.iterdir()} == workers
    for path in reports.iterdir():
        lines = [[int(number) for number in line.split()] for line in path.read_text().splitlines()]
        assert all(line[:2] == [1, 1] for line in lines)
        assert lines[-1][2] - lines[0][2] < large.nbytes / 2


def test_tasks_that_wait_for_frozen_worker_run_on_other_workers(tmp_path, set_limit, monkeypatch):
    from nnc.dask.fit import _Run

    set_limit("nnc.dask.fit.MAX_SILENT_SECONDS", 3.0)
    check_workers, started = _Run.check_workers, tmp_path / "begun"

    def move_task_and_data(run):
        """Move a task to the new worker, and send it the data again, as after the loss of a result."""
        if not hasattr(run, "first"):
            run.first = next(iter(run._workers()))
        if len(run._workers()) == 2 and not hasattr(run, "moved"):
            (run.moved,) = set(run._workers()) - {run.first}
            run.submit([*run.pending][-1], [run.moved])
            run.data = run._send_data([run.moved])
        check_workers(run)

    def mark_start(record):
        started.touch()

    mark_start.every = 100
    # The method is patched because a client cannot choose when the scheduler moves tasks and loses results.
    monkeypatch.setattr(_Run, "check_workers", move_task_and_data)
    trained_locally, trained_on_cluster = build_networks(8), build_networks(8)
    options = {"epochs": 1500, "batch_size": 8}
    nnc.fit_many(trained_locally, X, Y, **options)
    with cluster(tmp_path, 1) as (processes, client):

        def freeze():
            deadline = time.monotonic() + 30
            while not started.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            processes.workers[0].send_signal(signal.SIGSTOP)
            processes.add_worker()

        Timer(0, freeze).start()
        nnc.dask.fit_many(trained_on_cluster, X, Y, client, callback=mark_start, **options)
    assert [a.params.tobytes() for a in trained_locally] == [b.params.tobytes() for b in trained_on_cluster]


def test_interrupt_ends_tasks_and_lost_scheduler_raises(tmp_path):
    with cluster(tmp_path, 1) as (processes, client):
        Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        interrupted, before = build_networks(3), build_networks(3)
        history = nnc.dask.fit_many(interrupted, X, Y, client, epochs=10**8, lr=1e-6)
        assert {one.stop_reason for one in history} == {"interrupt"}
        assert [a.params.tobytes() for a in interrupted] == [b.params.tobytes() for b in before]
        # The interrupted fit left no task, so the worker can train again.
        nnc.dask.fit_many(interrupted, X, Y, client, epochs=1)
        Timer(1.5, processes.scheduler.send_signal, (signal.SIGKILL,)).start()
        with pytest.raises(ConnectionError, match=r"the scheduler at tcp://127.0.0.1:\d+ is lost: \d of 4 networks"):
            nnc.dask.fit_many(build_networks(4), X, Y, client, epochs=10**8, lr=1e-6, timeout=3)


def test_fit_many_rejects_invalid_client(tmp_path):
    with pytest.raises(ValueError, match="client must be passed"):
        nnc.dask.fit_many(build_networks(2), X, Y, epochs=1)
    with pytest.raises(TypeError, match=r"client must be a synchronous distributed.Client"):
        nnc.dask.fit_many(build_networks(2), X, Y, 3, epochs=1)


def test_fit_partitions_equals_fits_on_single_partitions(tmp_path):
    chunks = (90, 0, 7, 103)
    d_X, d_y = da.from_array(X, (chunks, (2, 1))), da.from_array(Y, (chunks, (1,)))
    options = {"batch_size": 16, "optimizer": "adam", "lr": 0.01}
    by_partitions, by_hand = build_networks(2), build_networks(2)
    nnc.dask.fit_partitions(by_partitions, d_X, d_y, passes=2, **options)
    for k, rows in enumerate((slice(90), slice(90, 97), slice(97, 200)) * 2):
        arguments = options if k == 0 else {"batch_size": 16}
        nnc.fit_many(by_hand, X[rows], Y[rows], epochs=1, **arguments)
    assert [a.params.tobytes() for a in by_partitions] == [b.params.tobytes() for b in by_hand]
    path = tmp_path / "checkpoint.json"

    class StopError(Exception):
        pass

    def stop_at(epoch):
        def stop(record):
            if record.epoch == epoch:
                raise StopError

        return stop

    interrupted = build_networks(2)
    with pytest.raises(StopError):
        nnc.dask.fit_partitions(interrupted, d_X, d_y, passes=2, checkpoint=path, callback=stop_at(4), **options)
    resumed = build_networks(2)
    nnc.dask.fit_partitions(resumed, d_X, d_y, passes=2, checkpoint=path, **options)
    assert [a.params.tobytes() for a in by_partitions] == [b.params.tobytes() for b in resumed]
    path = tmp_path / "trained_before.json"
    interrupted = [network.copy() for network in by_partitions]
    with pytest.raises(StopError):
        nnc.dask.fit_partitions(interrupted, d_X, d_y, checkpoint=path, callback=stop_at(8), batch_size=16)
    nnc.dask.fit_partitions(resumed, d_X, d_y, checkpoint=path, batch_size=16)
    nnc.dask.fit_partitions(by_partitions, d_X, d_y, batch_size=16)
    assert [a.params.tobytes() for a in by_partitions] == [b.params.tobytes() for b in resumed]
    names = np.repeat(["a", "b", "c"], [90, 7, 103])  # each class occurs only in one partition
    classifiers = [NeuralNetwork([3, 4, 3], loss="cross_entropy", seed=0)]
    nnc.dask.fit_partitions(classifiers, d_X, da.from_array(names, (chunks,)), batch_size=16)
    assert classifiers[0].classes.tolist() == ["a", "b", "c"]
    rejected = NeuralNetwork([3, 4, 3], loss="cross_entropy", seed=0)
    with pytest.raises(ValueError, match="patience"):
        nnc.dask.fit_partitions([rejected], d_X, da.from_array(names, (chunks,)), patience=0)
    assert rejected.classes is None
    automatic = [NeuralNetwork([3, 4, 3], loss="auto", seed=0), NeuralNetwork([3, 4, 3], loss="auto", seed=0)]
    with pytest.raises(ValueError, match="patience"):
        nnc.dask.fit_partitions(automatic[1:], d_X, da.from_array(names, (chunks,)), patience=0)
    with pytest.raises(ValueError, match=r"^checkpoint must contain 1 network, got 2"):
        nnc.dask.fit_partitions(automatic[1:], d_X, da.from_array(names, (chunks,)), checkpoint=path)
    nnc.dask.fit_partitions(automatic[:1], d_X, da.from_array(names, (chunks,)), batch_size=16)
    assert [net.loss_name for net in automatic] == ["cross_entropy", "auto"]
    assert automatic[0].params.tobytes() == classifiers[0].params.tobytes()
    assert classifiers[0].state.optimizer == nnc.Adam()
    assert classifiers[0].history.lr.tolist() == [0.001] * 3
    automatic = build_networks(2)
    nnc.fit_many(automatic, X, Y, epochs=2)
    nnc.dask.fit_partitions(automatic, d_X, d_y)
    assert automatic[0].history.lr[2:].tolist() == [0.001] * 3
    by_hand = build_networks(2)
    nnc.fit_many(by_hand, X, Y, epochs=2)
    for k, rows in enumerate((slice(90), slice(90, 97), slice(97, 200))):
        nnc.fit_many(by_hand, X[rows], Y[rows], epochs=1, batch_size=(32, 32, 32)[k], lr=0.001)
    assert [a.params.tobytes() for a in automatic] == [b.params.tobytes() for b in by_hand]
    steps = automatic[0].state.steps
    nnc.dask.fit_partitions(automatic, d_X, d_y)
    assert automatic[0].state.steps == steps + 3 + 1 + 4
    per_network = build_networks(2)
    nnc.dask.fit_partitions(per_network, d_X, d_y, lr=nnc.PerNetwork([None, 0.1]))
    assert [set(network.history.lr) for network in per_network] == [{0.001}, {0.1}]


def test_partial_fit_of_estimators_trains_on_partitions():
    pytest.importorskip("sklearn")
    chunks = (90, 0, 7, 103)
    d_X = da.from_array(X, (chunks, (3,)))
    names = np.repeat(["a", "b", "c"], [90, 7, 103])
    options = {"hidden_layer_sizes": (6,), "n_estimators": 2, "random_state": 0}
    model = nnc.dask.DaskMLPClassifier(**options)
    for _ in range(2):
        model.partial_fit(d_X, da.from_array(names, (chunks,)))
    assert model.predict(d_X).compute().shape == (200,)
    with pytest.raises(ValueError, match=r"y must contain only classes of y in fit, \['a', 'b', 'c'\], got 'd'"):
        model.partial_fit(d_X, da.from_array(np.full(200, "d"), (chunks,)))
    two_passes = nnc.dask.DaskMLPClassifier(**options).partial_fit(d_X, da.from_array(names, (chunks,)), passes=2)
    assert np.array_equal(two_passes.to_local().predict_proba(X), model.to_local().predict_proba(X))
    regressor = nnc.dask.DaskMLPRegressor(**options).partial_fit(d_X, da.from_array(Y[:, 0], (chunks,)))
    assert regressor.predict(X).shape == (200,)


def test_failed_first_partial_fit_leaves_estimator_without_networks():
    pytest.importorskip("sklearn")
    model = nnc.dask.DaskMLPRegressor(n_estimators=1)
    attributes = dict(vars(model))
    with pytest.raises(ValueError, match="passes"):
        model.partial_fit(da.from_array(X), da.from_array(Y[:, 0]), passes=0)
    assert vars(model) == attributes


def test_forecasters_do_not_depend_on_killed_worker(tmp_path):
    from nnc.forecast import Forecaster

    rng = np.random.default_rng(0)
    t = np.arange(72)
    groups = [[10 + np.sin(2 * np.pi * t / 12) * k + rng.normal(0, 0.3, 72) for k in range(1, 5)] for _ in range(6)]
    models = [Forecaster(horizon=6, season=12, seed=i) for i in range(6)]
    expected = [Forecaster(horizon=6, season=12, seed=i).fit(y).predict() for i, y in enumerate(groups)]
    with cluster(tmp_path, 2) as (processes, client):
        client.wait_for_workers(2, timeout=60)
        killer = Timer(0.3, lambda: os.kill(processes.workers[0].pid, signal.SIGKILL))
        killer.start()
        fitted = nnc.dask.fit_forecasters(models, groups, client)
        killer.join()
    assert [model.predict().tobytes() for model in fitted] == [values.tobytes() for values in expected]
    with pytest.raises(ValueError, match="series must have one item for each of the 6 forecasters, got 5"):
        nnc.dask.fit_forecasters(models, groups[:5], client)

"""A web service that answers with a network, and learns from what it is told (FastAPI; extra [examples]).

    uvicorn --app-dir examples web_service:app
    curl localhost:8000/predict -H "content-type: application/json" -d '{"rows": [[5.9, 3.0, 5.1, 1.8]]}'

Predictions may be asked for while the network learns; two trainings wait for each other.
"""

from threading import Lock

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from nnc import NeuralNetwork
from nnc.datasets import IRIS_CLASSES, load_iris

X, y = load_iris()
names = [IRIS_CLASSES[label] for label in y]
net = NeuralNetwork([4, 16, 3], activation="tanh", loss="cross_entropy", scale_X="standardize", seed=0)
net.fit(X, names, epochs=100, lr=0.1, batch_size=10)
step = net.stepper("sgd", lr=0.01)
one_at_a_time = Lock()
app = FastAPI(title="Iris")


class Rows(BaseModel):
    rows: list[list[float]]


class Examples(Rows):
    labels: list[str]


@app.post("/predict")
def predict(question: Rows):
    """The species of each flower, and how probable each species is."""
    try:
        probabilities = net.predict_proba(question.rows)
    except (ValueError, TypeError) as error:  # nnc's messages say what is wrong with the rows
        raise HTTPException(422, str(error)) from error
    return {
        "species": net.classes[probabilities.argmax(axis=1)].tolist(),
        "probabilities": [dict(zip(net.classes.tolist(), row, strict=True)) for row in probabilities.tolist()],
    }


@app.post("/learn")
def learn(examples: Examples):
    """One step of training on flowers whose species has become known."""
    try:
        with one_at_a_time:
            return {"loss": step(examples.rows, examples.labels)}
    except (ValueError, TypeError) as error:
        raise HTTPException(422, str(error)) from error


@app.get("/network")
def network():
    """The network as the JSON document that `NeuralNetwork.load` reads."""
    return {"summary": net.summary(), "document": net.to_json()}

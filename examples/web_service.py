"""Web service that predicts with a network and trains it on labelled rows (FastAPI; extra [examples]).

    uvicorn --app-dir examples web_service:app
    curl localhost:8000/predict -H "content-type: application/json" -d '{"rows": [[5.9, 3.0, 5.1, 1.8]]}'

Predictions are allowed while the network trains; training requests wait for each other.
"""

import sys
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
training_lock = Lock()
app = FastAPI(title="Iris")


class Rows(BaseModel):
    rows: list[list[float]]


class Examples(Rows):
    labels: list[str]


@app.post("/predict")
def predict(request: Rows):
    """Return the species of each flower and the probability of each species."""
    try:
        probabilities = net.predict_proba(request.rows)
    except (ValueError, TypeError) as error:  # the message of nnc describes what is wrong with the rows
        raise HTTPException(422, str(error)) from error
    return {
        "species": net.classes[probabilities.argmax(axis=1)].tolist(),
        "probabilities": [dict(zip(net.classes.tolist(), row, strict=True)) for row in probabilities.tolist()],
    }


@app.post("/learn")
def learn(examples: Examples):
    """Take one training step on labelled flowers."""
    try:
        with training_lock:
            return {"loss": step(examples.rows, examples.labels)}
    except (ValueError, TypeError) as error:
        raise HTTPException(422, str(error)) from error


@app.get("/network")
def network():
    """Return the summary of the network and its JSON text, which `nnc.from_json` reads."""
    return {"summary": net.summary(), "document": net.to_json()}


if __name__ == "__main__":  # draw the network: python examples/web_service.py net.svg
    net.to_svg(sys.argv[1], row=X[0])

"""Time of calls, as percentiles and a histogram, for the examples that call a network in a loop."""

from array import array
from time import perf_counter

MAX_BAR_LENGTH = 40  # length of the longest bar in characters
MIN_FRACTION = 0.001  # bins with a smaller fraction of the calls are merged into one line


class Latency:
    """A function that records the time of each of its calls.

    predict = Latency("predict", net.predict)
    predict(X)
    print(predict)
    """

    def __init__(self, name, function):
        self.name, self.function, self.seconds = name, function, array("d")

    def __call__(self, *args, **keywords):
        """Call the function."""
        start = perf_counter()
        result = self.function(*args, **keywords)
        self.seconds.append(perf_counter() - start)
        return result

    def __str__(self):
        """Return percentiles and a histogram, whose bins double in width."""
        times = sorted(1e6 * seconds for seconds in self.seconds)
        n = len(times)
        median, percentile = times[n // 2], times[n * 99 // 100]
        text = [f"{self.name}: {n} calls, median {median:.1f} us, 99th percentile {percentile:.1f} us, "]
        text[0] += f"maximum {times[-1]:.1f} us"
        counts = {}
        for time in times:
            edge = 1.0
            while time > edge:
                edge *= 2
            counts[edge] = counts.get(edge, 0) + 1
        merged = 0
        for edge, count in sorted(counts.items()):
            if count < MIN_FRACTION * n:
                merged += count
            else:
                text.append(f"  up to {edge:6.0f} us {'#' * max(1, round(MAX_BAR_LENGTH * count / n))} {count / n:.1%}")
        return "\n".join(text + [f"  other {merged}"] * (merged > 0))

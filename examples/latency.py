"""How long calls take: a table and a histogram, for the examples that call a network in a loop."""

from array import array
from time import perf_counter

BAR = 40  # characters of the longest bar
LEAST = 0.001  # of the calls: what is rarer has no bar of its own


class Latency:
    """A function that keeps the time of each of its calls.

    predict = Latency("predict", net.predict)
    predict(X)
    print(predict)
    """

    def __init__(self, name, function):
        self.name, self.function, self.seconds = name, function, array("d")

    def __call__(self, *args, **named):
        """Call the function."""
        began = perf_counter()
        result = self.function(*args, **named)
        self.seconds.append(perf_counter() - began)
        return result

    def __str__(self):
        """Median, 99 % and the worst, and how many calls took how long, each bar twice as long as the one before."""
        times = sorted(1e6 * seconds for seconds in self.seconds)
        n = len(times)
        text = [f"{self.name}: {n} calls, median {times[n // 2]:.1f} us, 99 % {times[n * 99 // 100]:.1f} us, "]
        text[0] += f"worst {times[-1]:.1f} us"
        counts = {}
        for time in times:
            edge = 1.0
            while time > edge:
                edge *= 2
            counts[edge] = counts.get(edge, 0) + 1
        rare = 0
        for edge, count in sorted(counts.items()):
            if count < LEAST * n:
                rare += count
            else:
                text.append(f"  up to {edge:6.0f} us {'#' * max(1, round(BAR * count / n))} {count / n:.1%}")
        return "\n".join(text + [f"  elsewhere {rare}"] * (rare > 0))

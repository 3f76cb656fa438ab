"""A plugin as strategies are written: numpy and pandas, and threads that compute. Nothing of it is hostile."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from workers.sdk import Context, Noop, Plugin

SIDE = 200
DAYS = 1_000


class Analyst(Plugin):
    """Answers with figures that come out the same everywhere."""

    name = "analyst"

    def decide(self, ctx: Context) -> Noop:
        """Matrix products in four threads at once, then a rolling mean by month."""
        matrix = np.arange(SIDE * SIDE, dtype=np.float64).reshape(SIDE, SIDE) % 7
        with ThreadPoolExecutor(4) as pool:
            traces = list(pool.map(lambda factor: np.trace((matrix * factor) @ matrix), (1, 2, 3, 4)))
        prices = pd.Series(np.arange(DAYS, dtype=np.float64), index=pd.date_range("2026-01-01", periods=DAYS, tz="UTC"))
        frame = pd.DataFrame({"mean": prices.rolling(7).mean(), "month": prices.index.strftime("%Y-%m")})
        months = frame.dropna().groupby("month")["mean"].agg(["first", "last"])
        return Noop(f"{traces[3] / traces[0]:g} {len(months)} {months['last'].iloc[-1]:g}")

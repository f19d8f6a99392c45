"""What it costs: measured tables become functions that answer seconds, an interval and an origin.

In come tables (:mod:`predictor.tables`); :mod:`predictor.costs.fitting` writes ``fit.json`` with
statsmodels; out goes :class:`Costs`, plain arrays that predict any shape without statsmodels.
"""

from predictor.costs.fabric import Fabric
from predictor.costs.loading import load_costs
from predictor.costs.model import Costs
from predictor.costs.prediction import Origin, Prediction

__all__ = ["Costs", "Fabric", "Origin", "Prediction", "load_costs"]

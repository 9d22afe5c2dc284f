"""Where a model looks, where the face moves, and the sentence about it. The module is the function `explain`, too."""

import sys

from mol_fast.explain.attribution import METHODS
from mol_fast.explain.explainer import Explainer, explain
from mol_fast.explain.result import ELSEWHERE, METHOD, Channel, Explanation
from mol_fast.explain.units import Unit
from mol_fast.utils.callable_module import call_module

__all__ = ["ELSEWHERE", "METHOD", "METHODS", "Channel", "Explainer", "Explanation", "Unit", "explain"]

call_module(sys.modules[__name__], explain)

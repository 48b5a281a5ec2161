"""Optimizers, the average of the weights, and learning rate schedules."""

from lenet.optim.averaging import Average as Average
from lenet.optim.muon import Muon as Muon
from lenet.optim.optimizers import OPTIMIZERS as OPTIMIZERS
from lenet.optim.optimizers import SGD as SGD
from lenet.optim.optimizers import Adam as Adam
from lenet.optim.optimizers import AdamW as AdamW
from lenet.optim.optimizers import Nesterov as Nesterov
from lenet.optim.optimizers import Optimizer as Optimizer
from lenet.optim.optimizers import hyperparameters as hyperparameters
from lenet.optim.optimizers import make_optimizer as make_optimizer
from lenet.optim.schedules import make_schedule as make_schedule

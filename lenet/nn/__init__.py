"""Array code and layers: the patch matrix, layers, losses, and networks of layers."""

from lenet.nn.activations import Activation as Activation
from lenet.nn.convolution import Convolution as Convolution
from lenet.nn.dropout import Dropout as Dropout
from lenet.nn.gradcheck import check_layer as check_layer
from lenet.nn.im2col import col2im as col2im
from lenet.nn.im2col import im2col as im2col
from lenet.nn.im2col import output_size as output_size
from lenet.nn.layer import Layer as Layer
from lenet.nn.layer import Parameter as Parameter
from lenet.nn.linear import Linear as Linear
from lenet.nn.losses import MAPLoss as MAPLoss
from lenet.nn.losses import SoftmaxCrossEntropy as SoftmaxCrossEntropy
from lenet.nn.network import Network as Network
from lenet.nn.normalisation import BatchNormalization as BatchNormalization
from lenet.nn.pooling import AveragePooling as AveragePooling
from lenet.nn.pooling import MaxPooling as MaxPooling
from lenet.nn.rbf import RBF as RBF
from lenet.nn.subsampling import Subsampling as Subsampling
from lenet.nn.transposed import TransposedConvolution as TransposedConvolution
from lenet.nn.unpooling import MaxUnpooling as MaxUnpooling
from lenet.nn.unpooling import RepeatUnpooling as RepeatUnpooling

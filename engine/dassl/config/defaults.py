"""Define the keys that every YAML of the family may set, with Dassl.pytorch's default values.

Keys that only served domain adaptation or semi-supervised trainers (``TRAINER.MCD`` and
so on) are left out; a trainer that needs a node adds it before the YAML is merged.
"""

from yacs.config import CfgNode


def get_cfg_default() -> CfgNode:
    """Return a new, unfrozen tree; a trainer adds its own node under ``TRAINER``."""
    cfg = CfgNode()
    cfg.VERSION = 1
    cfg.OUTPUT_DIR = "./output"  # log.txt, checkpoints, tensorboard
    cfg.RESUME = ""  # folder of an earlier run to resume; empty: train from the beginning
    cfg.SEED = -1  # negative: no seed is set
    cfg.USE_CUDA = True
    cfg.VERBOSE = True
    cfg.INPUT = _input()
    cfg.DATASET = _dataset()
    cfg.DATALOADER = _dataloader()
    cfg.MODEL = _model()
    cfg.OPTIM = _optim()
    cfg.TRAIN = _train()
    cfg.TEST = _test()
    cfg.TRAINER = CfgNode()
    cfg.TRAINER.NAME = ""
    return cfg


def _input() -> CfgNode:
    node = CfgNode()
    node.SIZE = (224, 224)  # height, width in pixels
    node.INTERPOLATION = "bilinear"  # bilinear, bicubic or nearest
    node.RESIZE_MODE = "shortest"  # side of a test image; or squash: both sides (ours)
    node.TRANSFORMS = ()  # names from dassl.data.transforms
    node.NO_TRANSFORM = False  # True: the loader hands out PIL images
    node.PIXEL_MEAN = [0.485, 0.456, 0.406]
    node.PIXEL_STD = [0.229, 0.224, 0.225]
    node.CROP_PADDING = 4  # random_crop, pixels
    node.RRCROP_SCALE = (0.08, 1.0)  # random_resized_crop, share of the area
    node.CUTOUT_N = 1
    node.CUTOUT_LEN = 16  # side of a hole, pixels
    node.GN_MEAN = 0.0  # gaussian_noise
    node.GN_STD = 0.15
    node.RANDAUGMENT_N = 2  # operations per image
    node.RANDAUGMENT_M = 10  # strength, 0 to 30
    node.COLORJITTER_B = 0.4
    node.COLORJITTER_C = 0.4
    node.COLORJITTER_S = 0.4
    node.COLORJITTER_H = 0.1
    node.RGS_P = 0.2  # randomgrayscale, probability
    node.GB_P = 0.5  # gaussian_blur, probability
    node.GB_K = 21  # gaussian_blur, odd kernel size
    return node


def _dataset() -> CfgNode:
    node = CfgNode()
    node.ROOT = ""
    node.NAME = ""
    node.SOURCE_DOMAINS = ()
    node.TARGET_DOMAINS = ()
    node.NUM_LABELED = -1
    node.NUM_SHOTS = -1  # images per class; below 1: all
    node.VAL_PERCENT = 0.1
    node.STL10_FOLD = -1
    node.CIFAR_C_TYPE = ""
    node.CIFAR_C_LEVEL = 1
    node.ALL_AS_UNLABELED = False
    return node


def _dataloader() -> CfgNode:
    node = CfgNode()
    node.NUM_WORKERS = 4
    # Cap on training images kept decoded in memory, in units of 2**20 bytes; 0: none (not
    # upstream's). 16 shots of 50 classes in 640 x 480 take 938.
    node.CACHE_MB = 1024
    node.K_TRANSFORMS = 1  # augmented copies of a training image
    node.RETURN_IMG0 = False  # also hand out the image without augmentation
    node.TRAIN_X = _train_loader()
    node.TRAIN_U = _train_loader()
    node.TRAIN_U.SAME_AS_X = True
    node.TEST = CfgNode()
    node.TEST.SAMPLER = "SequentialSampler"
    node.TEST.BATCH_SIZE = 32
    return node


def _train_loader() -> CfgNode:
    node = CfgNode()
    node.SAMPLER = "RandomSampler"
    node.BATCH_SIZE = 32
    node.N_DOMAIN = 0
    node.N_INS = 16
    return node


def _model() -> CfgNode:
    node = CfgNode()
    node.INIT_WEIGHTS = ""  # checkpoint to initialise from
    node.BACKBONE = CfgNode()
    node.BACKBONE.NAME = ""
    node.BACKBONE.PRETRAINED = True
    node.BACKBONE.TRUST = False  # load a TorchScript archive that is none of OpenAI's (ours)
    # What a file of weights cannot say (ours):
    node.BACKBONE.ACTIVATION = ""  # quick_gelu or gelu; empty: quick_gelu, OpenAI's
    node.BACKBONE.HEAD_WIDTHS = (64, 64)  # of the attention heads of the text and image tower
    node.HEAD = CfgNode()
    node.HEAD.NAME = ""
    node.HEAD.HIDDEN_LAYERS = ()
    node.HEAD.ACTIVATION = "relu"
    node.HEAD.BN = True
    node.HEAD.DROPOUT = 0.0
    return node


def _optim() -> CfgNode:
    node = CfgNode()
    node.NAME = "adam"
    node.LR = 0.0003
    node.WEIGHT_DECAY = 5e-4
    node.MOMENTUM = 0.9
    node.SGD_DAMPNING = 0  # the missing letter is part of the key
    node.SGD_NESTEROV = False
    node.RMSPROP_ALPHA = 0.99
    node.ADAM_BETA1 = 0.9  # all Adam-like optimisers
    node.ADAM_BETA2 = 0.999
    node.STAGED_LR = False  # True is refused; nothing reads the next two
    node.NEW_LAYERS = ()
    node.BASE_LR_MULT = 0.1
    node.LR_SCHEDULER = "single_step"  # single_step, multi_step or cosine
    node.STEPSIZE = (-1,)  # epochs; below 1 (single_step): MAX_EPOCH
    node.GAMMA = 0.1
    node.MAX_EPOCH = 10
    node.WARMUP_EPOCH = -1  # below 1: no warm-up
    node.WARMUP_TYPE = "linear"  # linear or constant
    node.WARMUP_CONS_LR = 1e-5
    node.WARMUP_MIN_LR = 1e-5
    node.WARMUP_RECOUNT = True  # the schedule after the warm-up starts at its epoch 0
    return node


def _train() -> CfgNode:
    node = CfgNode()
    node.CHECKPOINT_FREQ = 0  # epochs; below 1: save after the last epoch only
    node.CHECKPOINT_STEPS = 0  # steps (not upstream's); below 1: none within an epoch
    node.CUDA_GRAPH = True  # on a GPU run steps as a CUDA graph (not upstream's)
    node.PRINT_FREQ = 10  # batches
    node.TRACKER = ""  # wandb or trackio, next to TensorBoard (not upstream's)
    node.COUNT_ITER = "train_x"
    return node


def _test() -> CfgNode:
    node = CfgNode()
    node.EVALUATOR = "Classification"
    node.PER_CLASS_RESULT = False
    node.COMPUTE_CMAT = False  # confusion matrix to OUTPUT_DIR/cmat.pt
    node.NO_TEST = False
    node.SPLIT = "test"  # split of the final evaluation: test or val
    node.FINAL_MODEL = "last_step"  # last_step or best_val
    return node

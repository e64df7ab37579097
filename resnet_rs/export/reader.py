"""The program of the self-check: runs an exported network without this project.

    python -I reader.py FORMAT FOLDER IMAGES.npy LOGITS.npy BATCH_SIZE

The images are uint8 [number, size, size, 3], or clips [number, frames, size, size, 3]; the logits
that it writes are float32.
"""

import pathlib
import sys

import numpy as np


def read_stablehlo(folder: pathlib.Path):
    """Returns the function from images to logits of a folder with a jax.export program."""
    import jax
    from jax import export

    program = export.deserialize(bytearray((folder / 'model.stablehlo').read_bytes()))
    call = jax.jit(program.call)
    if not (folder / 'weights.safetensors').exists():
        return call
    from safetensors.flax import load_file

    weights = load_file(folder / 'weights.safetensors')
    return lambda images: call(weights, images)


def read_saved_model(folder: pathlib.Path):
    """Returns the function from images to logits of a SavedModel."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))
    call = model.signatures['serving_default']
    # The model lives as long as the function that refers to it.
    return lambda images, model=model: call(images=tf.constant(images))['logits']


def read_tflite(folder: pathlib.Path):
    """Returns the function from images to logits of a TFLite file."""
    path = str(folder / 'model.tflite')
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    runner = Interpreter(path).get_signature_runner('serving_default')
    return lambda images: runner(images=images)['logits']


def read_onnx(folder: pathlib.Path):
    """Returns the function from images to logits of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        folder / 'model.onnx', providers=['CPUExecutionProvider']
    )
    return lambda images: session.run(['logits'], {'images': images})[0]


READERS = {
    'stablehlo': read_stablehlo,
    'saved_model': read_saved_model,
    'tflite': read_tflite,
    'onnx': read_onnx,
}


def main() -> None:
    sys.modules['resnet_rs'] = None  # an import of this project fails
    name, folder, images, logits, batch_size = sys.argv[1:]
    images, batch_size = np.load(images), int(batch_size)
    call = READERS[name](pathlib.Path(folder))
    parts = [call(images[at : at + batch_size]) for at in range(0, len(images), batch_size)]
    np.save(logits, np.concatenate([np.asarray(part) for part in parts]))


if __name__ == '__main__':
    main()

"""Three networks that other people trained on MNIST, wrapped as denoisers: the model case for wrapping yours.

Each module has the network, as its authors published it, and a function `denoiser` that reads the weights and says what
diffuscope cannot guess: what the network predicts, its noise schedule, how it is given the time, and the range of its
data. From the folder above this one::

    diffuscope audit --data mnist --model published_networks.noise_unet:denoiser
"""

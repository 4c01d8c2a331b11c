def drift(x):
    return -x

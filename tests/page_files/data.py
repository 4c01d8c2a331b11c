"""Series, latents and tables of the forms that the page names."""

import numpy as np
import pandas as pd


def prepare(run):
    del run
    rng = np.random.default_rng(0)
    np.save("ecg.npy", rng.normal(size=(200, 30)).astype(np.float32))
    for name in ("vae_latents", "my_latents"):
        np.save(f"{name}.npy", rng.normal(size=(200, 4, 4, 4)).astype(np.float32))
    for name in ("patients", "later", "synthetic"):
        table = pd.DataFrame({"age": rng.integers(20, 90, 200), "weight": rng.normal(70, 10, 200)})
        table["city"] = rng.choice(["Rome", "Oslo"], 200)
        table.to_csv(f"{name}.csv", index=False)
    table = pd.read_csv("patients.csv")
    table.assign(patient=rng.integers(0, 60, 200)).to_parquet("visits.parquet")

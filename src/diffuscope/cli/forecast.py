"""`diffuscope train --forecast`: when copying will start, from pilot runs on fewer examples; one line and forecast.json."""

# SPDX-License-Identifier: MIT
"""The smallest character model: it learns to say "hello" after "h", with the letters h, e, l, o.

After each letter a vanilla RNN scores the next one. It has to remember: the first l is followed by
another l, the second by an o.
"""

import numpy as np

import fusedrnn

letters = "helo"
text = np.array([[letters.index(c)] for c in "hello"])  # (5, 1): 5 time steps of 1 sequence
x, target = text[:-1], text[1:]  # "hell" is followed by "ello"

rnn = fusedrnn.RNN(input_size=4, hidden_size=8, seed=0)  # h_t = tanh(W_ih x_t + W_hh h_{t-1} + b)
head = fusedrnn.Linear(8, 4, seed=1)  # o_t = V h_t + c
optimizer = fusedrnn.optim.Adam([rnn, head], lr=0.05)

for _ in range(100):
    y, state, tape = rnn.forward(x)
    logits, head_tape = head.forward(y)
    loss, dlogits = fusedrnn.softmax_cross_entropy(logits, target)  # mean of -log softmax(o_t)
    optimizer.zero_grad()
    rnn.backward(tape, head.backward(head_tape, dlogits))  # through time, last step to first
    optimizer.step()

said, state = "h", np.zeros_like(state)
for _ in range(4):  # each letter said is the next one heard
    y, state = rnn(np.array([[letters.index(said[-1])]]), state)
    said += letters[int(head(y).argmax())]
print(f"loss {loss:.4f}, {said}")

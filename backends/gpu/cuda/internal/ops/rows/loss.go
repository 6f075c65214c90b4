package rows

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
)

func addLosses(t engine.Table) {
	add(t, "crossentropy", crossEntropy())
	add(t, "crossentropy.vjp", crossEntropyVJP())
}

// lossBlock is the block for rows of so many logits: a warp a row, or a block that
// has its share of what must be under way.
func lossBlock(width int) driver.Dim {
	switch {
	case width <= 1024:
		return driver.Dim{X: 32, Y: 8}
	case width <= 8192:
		return driver.Dim{X: 256, Y: 1}
	}
	return driver.Dim{X: 512, Y: 1}
}

func crossEntropy() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{true, false}, []bool{false}),
		Bind: bind(losses, func(l *launcher) {
			rows, width := split(l.Node.In[0].Shape())
			block := lossBlock(width)
			failure, node := l.Failure()
			l.launch("crossentropy", blocks(rows, block.Y), block,
				l.In[0], l.In[1], l.Out[0], uint64(rows), width, l.Narrow(), failure, node)
		}),
	}
}

func crossEntropyVJP() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{true, false, false}, []bool{true}),
		Bind: bind(losses, func(l *launcher) {
			rows, width := split(l.Node.In[0].Shape())
			block := lossBlock(width)
			failure, node := l.Failure()
			l.launch("crossentropy_vjp", blocks(rows, block.Y), block,
				l.In[0], l.In[1], l.In[2], l.Out[0], uint64(rows), width, l.Narrow(), failure, node)
		}),
	}
}
